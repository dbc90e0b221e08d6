"""Pieces of SQL, in DuckDB's dialect, that several reports are made of: JSON objects, and money by currency.

A row that is of one thing (a session, a product, a customer) may have amounts of several currencies, which nobody may
add up. Such a table has four columns for them, here of the revenue:

- `revenue_by_currency`: JSON, each currency's sum as a decimal in text. Amounts that were sent without a currency have
  the name "". Currencies without revenue are not in it.
- `total_revenue` and `currency`: the sum, where there is one. Without any it is 0; it is null where there are several,
  and where nothing is known but that something was bought.
- `purchases_without_amount`: purchases whose amount was not sent, or is beyond decimal(18,2). Sums leave them out.
"""

from __future__ import annotations


def as_json(key: str, value: str) -> str:
    """An aggregate: the keys with their values as a JSON object, its names in order. Keys must be distinct."""
    return f"CAST(to_json(map_from_entries(list_sort(array_agg({{'key': {key}, 'value': {value}}})))) AS VARCHAR)"


def amount(revenue: str) -> str:
    """Money of an event as decimal, by way of its text: 1.005 is 1.01, and not what its binary value says."""
    return f"TRY_CAST(CAST({revenue} AS VARCHAR) AS DECIMAL(18, 2))"


def read_amounts(relation: str, keys: str, sign: str = "1") -> str:
    """A query: the sums of a relation's rows by `keys` and `currency`, as `amount`, without those that are 0.

    A row of older code has `total_revenue` alone, of which no currency is known.
    """
    of_older_code = """'{"":"' || CAST(total_revenue AS VARCHAR) || '"}'"""
    return f"""
  SELECT {keys}, entry.key AS currency, sum(sign * entry.value) AS amount
  FROM (
    SELECT {keys}, {sign} AS sign, unnest(map_entries(CAST(CAST(
             COALESCE(revenue_by_currency, {of_older_code}) AS JSON) AS MAP(VARCHAR, DECIMAL(28, 2))))) AS entry
    FROM {relation} WHERE COALESCE(revenue_by_currency, '') <> '{{}}'
  ) AS entries GROUP BY {keys}, entry.key HAVING sum(sign * entry.value) <> 0
"""


def join_amounts(amounts: str, keys: str) -> str:
    """A query: rows of `keys`, `currency` and `amount` (not 0) as one row a key, for `total_of` and `BY_CURRENCY`."""
    return f"""
  SELECT {keys}, {as_json("currency", "CAST(amount AS VARCHAR)")} AS sums,
         CASE WHEN count(*) = 1 THEN CAST(max(amount) AS DOUBLE) END AS one_sum,
         CASE WHEN count(*) = 1 THEN nullif(max(currency), '') END AS currency
  FROM {amounts} GROUP BY {keys}
"""


BY_CURRENCY = "COALESCE(sums, '{}')"


def total_of(without_amount: str) -> str:
    """The total of a row that is joined to its row of `join_amounts`, if it has one."""
    return f"CASE WHEN sums IS NULL AND {without_amount} = 0 THEN 0.0 ELSE one_sum END"
