"""The tables of reports on access logs, as values.

Apart from the reports that write them, so that alerts know them without what computes them.
"""

from __future__ import annotations

from platform_assets.tables.spec import Column, EventRoles, TableSpec

NETWORK_THREATS_TABLE = TableSpec(
    name="gold.network_threats",
    description="Networks that did too much of what attackers do on a UTC day, by rule.",
    grain="one day, network and rule",
    key=("report_date", "network", "rule"),
    columns=(
        Column("report_date", "date", "UTC day of the lines; each day is judged by itself", nullable=False),
        Column("network", "string", "The address; of IPv6 its /64", nullable=False),
        Column("rule", "string", "password_guessing, spread_guessing, path_scan or burst", nullable=False),
        Column("first_at", "timestamp", "The first line that counts for the rule", nullable=False),
        Column("last_at", "timestamp", "The last line of the day that counts for the rule", nullable=False),
        Column("reached_at", "timestamp", "When the rule's limit was reached first", nullable=False),
        Column("events", "bigint", "Failed log-ins, missing paths or requests of the day", nullable=False),
        Column("peak", "bigint", "The most of them in the rule's time; of spread_guessing: networks", nullable=False),
        Column("targets", "bigint", "Distinct users or paths", nullable=False),
        Column("hosts", "bigint", "Distinct hosts, those that are known", nullable=False),
        Column("logged_in_at", "timestamp", "First log-in of the network after the limit was reached; null: none"),
        Column("words", "string", "The same as a sentence", nullable=False),
    ),
    partition_columns=("report_date",),
    statistics_columns=("first_at", "last_at"),
    roles=EventRoles(user_id="network"),
)
