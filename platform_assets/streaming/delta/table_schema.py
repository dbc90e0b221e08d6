"""Compares a table's columns with its spec, and lets the table grow where only columns were added at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from platform_assets.errors import TableSchemaError
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable, Schema

# Delta's names for types that Spark SQL spells differently.
_SPARK_NAMES = {"long": "bigint", "integer": "int", "short": "smallint", "byte": "tinyint"}


def find_column_breaches(table: DeltaTable, spec: TableSpec) -> list[str]:
    """How the table's columns differ from the spec's, one sentence each; empty when they do not.

    Compared: names, types, order and nullability of the columns, and the partition columns.
    """
    actual = {name: (type_name, nullable) for name, type_name, nullable in _read_columns(table)}
    promised = {column.name: (column.type.lower(), column.nullable) for column in spec.columns}
    breaches = [f"Column {name} is missing." for name in promised if name not in actual]
    breaches += [f"Column {name} is not in the spec." for name in actual if name not in promised]
    if not breaches and list(actual) != list(promised):
        breaches.append(f"Columns are in the order {', '.join(actual)}; promised is {', '.join(promised)}.")
    for name, (type_name, nullable) in promised.items():
        actual_type, actual_nullable = actual.get(name, (type_name, nullable))
        if actual_type != type_name:
            breaches.append(f"Column {name} is {actual_type}; promised is {type_name}.")
        if actual_nullable != nullable:
            breaches.append(f"Column {name} is {_nullability(actual_nullable)}; promised is {_nullability(nullable)}.")
    partitions = table.metadata().partition_columns
    if tuple(partitions) != spec.partition_columns:
        breaches.append(f"Partition columns are {partitions}; promised are {spec.partition_columns}.")
    return breaches


def evolve_table(table: DeltaTable, spec: TableSpec, schema: Schema) -> None:
    """Adds the spec's new columns to an older table, in one commit; rows from before have null there.

    Only what every reader of the older columns can live with is done by itself: new nullable columns behind the known
    ones, and columns that are no longer NOT NULL (a commit each). Columns that the table has beyond the spec (older
    code on a newer table) are left alone if they can be null. Raises `TableSchemaError` with each difference for
    everything else; nothing has changed then.
    `schema` is the spec as delta-rs has it.
    """
    actual = _read_columns(table)
    added = spec.columns[len(actual) :]
    beyond = {f"Column {name} is not in the spec." for name, _, nullable in actual[len(spec.columns) :] if nullable}
    breaches = find_column_breaches(table, replace(spec, columns=spec.columns[: len(actual)]))
    relaxed = {
        f"Column {name} is NOT NULL; promised is nullable.": name
        for (name, _, nullable), column in zip(actual, spec.columns, strict=False)
        if column.nullable and not nullable
    }
    breaches = [breach for breach in breaches if breach not in beyond | relaxed.keys()]
    breaches += [
        f"New column {column.name} is NOT NULL; older rows have none." for column in added if not column.nullable
    ]
    if breaches:
        raise TableSchemaError(
            f"The table {spec.name} does not fit its code: {' '.join(breaches)} Run the code that the table was made "
            "with, or give what has changed a new name, nullable, behind the columns that are there."
        )
    for name in relaxed.values():
        table.alter.drop_column_not_null(name)
        table.update_incremental()
    if added:
        names = {column.name for column in added}
        table.alter.add_columns([field for field in schema.fields if field.name in names])
        table.update_incremental()


def spark_type_name(delta_type: str | Mapping[str, Any]) -> str:
    """A type of Delta's JSON schema as Spark SQL spells it: `array<string>`, `decimal(18,2)`, `bigint`."""
    if isinstance(delta_type, str):
        return _SPARK_NAMES.get(delta_type, delta_type)
    if delta_type["type"] == "array":
        return f"array<{spark_type_name(delta_type['elementType'])}>"
    if delta_type["type"] == "map":
        return f"map<{spark_type_name(delta_type['keyType'])},{spark_type_name(delta_type['valueType'])}>"
    return "struct<" + ",".join(f"{f['name']}:{spark_type_name(f['type'])}" for f in delta_type["fields"]) + ">"


def _read_columns(table: DeltaTable) -> list[tuple[str, str, bool]]:
    fields = json.loads(table.schema().to_json())["fields"]
    return [(field["name"], spark_type_name(field["type"]), field["nullable"]) for field in fields]


def _nullability(nullable: bool) -> str:
    return "nullable" if nullable else "NOT NULL"
