"""gold.network_threats: who guessed passwords, looked for holes, or asked for too much on a day, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.report_sources import LOGS
from platform_assets.tables.access_logs import NETWORK_THREATS_TABLE
from platform_assets.topics.access_logs import ACCESS_LOGS


@dataclass(frozen=True)
class Limit:
    """What is too much: `least` events of one network within `seconds`."""

    least: int
    seconds: int


# What fail2ban bans by default for each of its jails (jail.conf of 1.0.2: maxretry 5, findtime 10m).
PASSWORD_GUESSING = Limit(5, 600)
# Networks that try one user. Our own choice: no published limit was found. Networks that logged in on the day are none.
SPREAD_GUESSING = Limit(10, 3600)
# CrowdSec's `http-probing`: its bucket of 10 distinct paths overflows with the 11th.
PATH_SCAN = Limit(11, 60)
# CrowdSec's `http-crawl-non_statics`: its bucket of 40 leaks two a second, so that it takes 160 within a minute.
BURST = Limit(161, 60)
SCANNED_STATUSES = (400, 403, 404)
"""As `http-probing` has them."""
STATIC_FILE = "[.](css|js|mjs|map|png|jpe?g|gif|svg|webp|avif|ico|woff2?|ttf|eot|mp4|webm|mp3|pdf)$"
"""A page asks for many of them: neither these nor missing ones are counted, as both scenarios leave them out."""


def _within(limit: Limit) -> str:
    return f"ORDER BY micros RANGE BETWEEN {limit.seconds * 1_000_000} PRECEDING AND CURRENT ROW"


def _judge(relation: str, rule: str, limit: Limit, words: str) -> str:
    """A query: the networks beyond the limit. Columns of the relation: those of `guesses`."""
    return f"""
  SELECT event_date, network, '{rule}' AS rule, min(event_time) AS first_at, max(event_time) AS last_at,
         min(CASE WHEN so_many >= {limit.least} THEN event_time END) AS reached_at, CAST(sum(n) AS BIGINT) AS events,
         max(so_many) AS peak, count(DISTINCT target) AS targets, count(DISTINCT host) AS hosts, {words} AS words
  FROM (SELECT *, CAST(sum(n) OVER (PARTITION BY event_date, network {_within(limit)}) AS BIGINT) AS so_many
        FROM {relation}) AS counted_{rule}
  GROUP BY event_date, network HAVING max(so_many) >= {limit.least}"""


_EVENTS, _PEAK, _TARGETS = (
    f"CAST({each} AS VARCHAR)" for each in ("CAST(sum(n) AS BIGINT)", "max(so_many)", "count(DISTINCT target)")
)
_STATUSES = ", ".join(map(str, SCANNED_STATUSES))
_HOUR = SPREAD_GUESSING.seconds * 1_000_000

# A key that is refused is no guess: an honest client offers each that it has. A client that goes before it is refused
# is one where the server logs no refusal at all (it takes no passwords).
_SQL = f"""
WITH lines AS (
  SELECT event_date, network, event_time, epoch_us(event_time) AS micros, host, service, user_name, path, status,
         outcome, outcome = 'failed' AND COALESCE(auth_method, '') <> 'publickey' AS is_refused,
         COALESCE(repeated, 1) AS n
  FROM access_logs WHERE network IS NOT NULL
), refused AS (
  SELECT DISTINCT event_date, network AS refused_network FROM lines WHERE is_refused
), accepted AS (
  SELECT event_date, network, event_time FROM lines WHERE outcome = 'accepted'
), guesses AS (
  SELECT lines.event_date, network, event_time, micros, host, user_name AS target, n
  FROM lines LEFT JOIN refused ON refused.event_date = lines.event_date AND refused_network = network
  WHERE is_refused OR (outcome = 'closed' AND refused_network IS NULL)
), requests AS (
  SELECT event_date, network, event_time, micros, host, COALESCE(path, '') AS target, 1 AS n, status
  FROM lines WHERE service = 'web' AND NOT regexp_matches(lower(COALESCE(path, '')), '{STATIC_FILE}')
), missed AS (
  SELECT event_date, network, host, target, min(event_time) AS event_time, min(micros) AS micros, 1 AS n
  FROM requests WHERE status IN ({_STATUSES}) GROUP BY event_date, network, host, target
), pairs AS (
  SELECT event_date, target, network, min(event_time) AS event_time, min(micros) AS micros FROM guesses
  WHERE NOT EXISTS (SELECT 1 FROM accepted
                    WHERE accepted.event_date = guesses.event_date AND accepted.network = guesses.network)
  GROUP BY event_date, target, network
), crowds AS (
  SELECT *, count(*) OVER (PARTITION BY event_date, target {_within(SPREAD_GUESSING)}) AS so_many FROM pairs
), spread AS (
  SELECT event_date, target AS user_name, network AS member,
         max(so_many) OVER next_hour AS crowd,
         min(CASE WHEN so_many >= {SPREAD_GUESSING.least} THEN event_time END) OVER next_hour AS reached
  FROM crowds
  WINDOW next_hour AS (PARTITION BY event_date, target ORDER BY micros RANGE BETWEEN CURRENT ROW AND {_HOUR} FOLLOWING)
), members AS (
  SELECT guesses.event_date, network, event_time, host, target, n, crowd, reached
  FROM guesses JOIN spread ON spread.event_date = guesses.event_date AND user_name = target AND member = network
  WHERE crowd >= {SPREAD_GUESSING.least}
), threats AS ({
    _judge(
        "guesses",
        "password_guessing",
        PASSWORD_GUESSING,
        f"{_EVENTS} || ' failed log-ins, ' || {_PEAK} || ' of them within 10 minutes; users: ' || {_TARGETS}",
    )
}
  UNION ALL {
    _judge(
        "missed",
        "path_scan",
        PATH_SCAN,
        f"{_EVENTS} || ' paths that are not there, ' || {_PEAK} || ' of them within a minute'",
    )
}
  UNION ALL {
    _judge(
        "requests",
        "burst",
        BURST,
        f"{_EVENTS} || ' requests, ' || {_PEAK} || ' of them within a minute; paths: ' || {_TARGETS}",
    )
}
  UNION ALL
  SELECT event_date, network, 'spread_guessing', min(event_time), max(event_time), min(reached),
         CAST(sum(n) AS BIGINT), max(crowd), count(DISTINCT target), count(DISTINCT host),
         {_EVENTS} || ' failed log-ins; users: ' || {_TARGETS} || ', tried by up to ' || CAST(max(crowd) AS VARCHAR)
         || ' networks within an hour'
  FROM members GROUP BY event_date, network
)
SELECT threats.event_date AS report_date, threats.network, rule, first_at, last_at, reached_at, events, peak, targets,
       hosts, min(accepted.event_time) AS logged_in_at, words
FROM threats
LEFT JOIN accepted ON accepted.event_date = threats.event_date AND accepted.network = threats.network
  AND accepted.event_time >= reached_at AND rule IN ('password_guessing', 'spread_guessing')
GROUP BY threats.event_date, threats.network, rule, first_at, last_at, reached_at, events, peak, targets, hosts, words
"""

NETWORK_THREATS = DailyReport(
    table=NETWORK_THREATS_TABLE,
    inputs=(ReportInput(ACCESS_LOGS, "event_date"),),
    sql=_SQL,
    source=LOGS,
)
