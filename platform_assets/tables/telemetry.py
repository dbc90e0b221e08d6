"""The tables of reports on sensors and patients, as values.

Apart from the reports that write them, so that alerts know them without what computes them.
"""

from __future__ import annotations

from platform_assets.tables.spec import Column, EventRoles, TableSpec

TELEMETRY_ANOMALIES_TABLE = TableSpec(
    name="gold.telemetry_anomalies",
    description="What was wrong with the readings of a UTC day: out of range, stuck, steps, unusual values, silence. "
    "What goes on over midnight has a row on each day.",
    grain="one day, sensor, kind, rule and beginning",
    key=("report_date", "sensor", "kind", "rule", "start_time"),
    columns=(
        Column("report_date", "date", "UTC day on which it was so", nullable=False),
        Column("sensor", "string", "Which sensor", nullable=False),
        Column("kind", "string", "What it measures", nullable=False),
        Column("rule", "string", "out_of_range, stuck, step, unusual or silence", nullable=False),
        Column("start_time", "timestamp", "Since when; of what is stuck or silent perhaps the day before"),
        Column("end_time", "timestamp", "The last reading of which it is true; of a silence the reading that ends it"),
        Column("place", "string", "Where the sensor was, where it says so"),
        Column("readings", "bigint", "Readings of the day of which it is true; 0 for a silence", nullable=False),
        Column("value", "double", "The value that is farthest from what is expected; how long a silence was"),
        Column("expected", "double", "The limit, level or median that it is compared with; the usual pause"),
        Column("unit", "string", "Of both: the kind's standard unit; s for a silence", nullable=False),
        Column("severity", "string", "warning or critical", nullable=False),
        Column("words", "string", "The same for people", nullable=False),
    ),
    partition_columns=("report_date",),
    # A patient's readings are a person's.
    roles=EventRoles(user_id="sensor"),
)

VITAL_SIGNS = (
    "respiration_rate", "oxygen_saturation", "oxygen_flow", "systolic_pressure", "heart_rate", "consciousness",
    "body_temperature",
)  # fmt: skip
"""The kinds of readings that the early-warning score takes, in the order of its table."""

EARLY_WARNING_SCORES_TABLE = TableSpec(
    name="gold.early_warning_scores",
    description="NEWS2 early-warning score (Royal College of Physicians, 2017; oxygen scale 1) of each patient and "
    "hour, of the newest value of each vital sign in the hour. A sign without a value counts 0 points and is named: "
    "the score is then at least this. No medical device.",
    grain="one patient and hour with at least one vital sign",
    key=("report_date", "sensor", "hour_start"),
    columns=(
        Column("report_date", "date", "UTC day of the readings", nullable=False),
        Column("sensor", "string", "The patient's token", nullable=False),
        Column("hour_start", "timestamp", "First moment of the hour, UTC", nullable=False),
        Column("place", "string", "Where the patient was, where it is said"),
        *(Column(f"{kind}_points", "int", f"Points of the newest {kind.replace('_', ' ')}") for kind in VITAL_SIGNS),
        Column("score", "int", "Sum of the points that are known: 0 to 20", nullable=False),
        Column("known_signs", "int", "Vital signs that are known, of seven", nullable=False),
        Column("missing_signs", "string", "The others, in alphabetical order, with commas between", nullable=False),
        Column("has_red_sign", "boolean", "Whether one sign alone has three points", nullable=False),
        Column("risk", "string", "low, low-medium, medium or high; at least this if a sign is missing", nullable=False),
    ),
    partition_columns=("report_date",),
    roles=EventRoles(user_id="sensor"),
)  # fmt: skip
