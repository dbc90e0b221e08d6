"""The platform's own tables, as values: what its ledgers, its history and its registers of exceptions hold.

Their writers are in `platform_assets.streaming`; the audit log's is `jobs.operations.audit`. The reports' own ledger
stands with the reports.
"""

from __future__ import annotations

from platform_assets.tables.spec import Column, TableSpec

LEDGER = TableSpec(
    name="platform.ledger",
    description="What each micro-batch did with every offset it read; the projection of the tables' commits.",
    grain="query x batch x topic partition; of days that are over, query x day x topic partition",
    key=("query", "txn_app_id", "batch_id", "topic", "kafka_partition"),
    columns=(
        Column("query", "string", "The streaming query"),
        Column("txn_app_id", "string", "Delta transaction name: the query and its checkpoint's generation"),
        Column("batch_id", "bigint", "Micro-batch"),
        Column("table_version", "bigint", "Version of the main table that the batch made"),
        Column("topic", "string", "Kafka topic"),
        Column("kafka_partition", "int", "Kafka partition"),
        Column("from_offset", "bigint", "First offset read"),
        Column("until_offset", "bigint", "First offset not read"),
        Column("rows_in", "bigint", "Records delivered"),
        Column("accepted", "bigint", "Rows in the main table"),
        Column("quarantined", "bigint", "Rows in quarantine"),
        Column("deduplicated", "bigint", "Rows taken out as duplicates"),
        Column("erased", "bigint", "Records of users who had been forgotten before; null: by code that knew none"),
        Column("gaps", "string", "JSON: ranges [from, until) in which Kafka had no record"),
        Column("arrived_at", "timestamp", "The micro-batch's time"),
        Column("is_compacted", "boolean", "Whether the topic was compacted when the batch found gaps; null: not known"),
        Column("first_batch_id", "bigint", "First micro-batch of a rolled-up row, batch_id the last; null: only one"),
        Column("first_arrived_at", "timestamp", "Time of its first micro-batch, arrived_at of its last; null: one"),
        Column("batches", "bigint", "Micro-batches in a rolled-up row; null: the row is of one"),
    ),
    statistics_columns=("batch_id", "kafka_partition", "from_offset", "until_offset"),
)

QUERY_PROGRESS = TableSpec(
    name="platform.query_progress",
    description="History of every query's micro-batches: rows, durations, lag, watermark, state.",
    grain="query run x micro-batch",
    key=("query", "run_id", "batch_id"),
    columns=(
        Column("query", "string", "The streaming query"),
        Column("query_id", "string", "Its checkpoint's generation"),
        Column("run_id", "string", "Spark's id of this start of the query"),
        Column("batch_id", "bigint", "Micro-batch"),
        Column("started_at", "timestamp", "When the micro-batch began"),
        Column("rows_in", "bigint", "Rows read"),
        Column("duration_ms", "bigint", "Whole micro-batch"),
        Column("durations", "string", "JSON: milliseconds by phase"),
        Column("lag_records", "bigint", "Unread Kafka records at its end; null for other sources"),
        Column("watermark", "timestamp", "The query's watermark"),
        Column("state_rows", "bigint", "Rows in all state stores"),
        Column("state_bytes", "bigint", "Memory of all state stores"),
    ),
    statistics_columns=("started_at", "query", "batch_id"),
)

COMPLETE_UNTIL = TableSpec(
    name="platform.complete_until",
    description="How far each stream's table is complete: rows that end until then are final, but for the exceptions.",
    grain="query",
    key=("query",),
    columns=(
        Column("query", "string", "The streaming query"),
        Column("table_name", "string", "Its table"),
        Column("complete_until", "timestamp", "Up to here rows are final, but for those of `exceptions`; null before"),
        Column("watermark", "timestamp", "The query's watermark: rows that end until then are no longer changed by it"),
        Column("late_events_pending", "bigint", "Events that came too late and are not repaired yet"),
        Column("batch_id", "bigint", "The newest micro-batch that was done"),
        Column("source_version", "bigint", "Version of its source that the query had read"),
        Column("table_version", "bigint", "Version of its table then"),
        Column("updated_at", "timestamp", "When this was true"),
        Column("exceptions", "string", "JSON: hours (UTC) with events of platform.late_events that are not repaired"),
    ),
)

HOP_LEDGER = TableSpec(
    name="platform.hop_ledger",
    description="Which versions of its source each batch of a stream over a table read, and what came of their rows.",
    grain="query x batch (batches of a day that is over, and such as could not be told apart, share a row)",
    key=("query", "txn_app_id", "batch_id"),
    columns=(
        Column("query", "string", "The streaming query"),
        Column("txn_app_id", "string", "Delta transaction name: the query and its checkpoint's generation"),
        Column("first_batch_id", "bigint", "First micro-batch of this row"),
        Column("batch_id", "bigint", "Last micro-batch of this row"),
        Column("source_table", "string", "The table that the query reads"),
        Column("from_version", "bigint", "Read before: all up to this version; -1 at the beginning"),
        Column("from_files", "bigint", "Read before of that version's state: this many files; -1 all"),
        Column("until_version", "bigint", "Read now: all up to this version"),
        Column("until_files", "bigint", "Read now of that version's state: this many files; -1 all"),
        Column("rows_passed", "bigint", "Rows that these versions appended; null when the log is gone"),
        Column("rows_in", "bigint", "Those of the types that the query counts, as their writer said"),
        Column("rows_read", "bigint", "Rows that Spark says it read; null when it died before it was written down"),
        Column("rows_out", "bigint", "Rows written: appended, or inserted and replaced"),
        Column("rows_late", "bigint", "Rows that came too late, listed in platform.late_events for their repair"),
        Column("rows_in_state", "bigint", "Rows in the query's state after it; null where not known"),
        Column("rows_expired", "bigint", "Rows that left the state in these batches, as far as known; null: not known"),
        Column("planned_at", "timestamp", "The last micro-batch's time"),
        Column("batches", "bigint", "Rows that were rolled up in this one; null: it is as it was written"),
    ),
    statistics_columns=("query", "batch_id", "until_version"),
)

LATE_EVENTS = TableSpec(
    name="platform.late_events",
    description="Accepted events that came too late for a stream, and when the stream's table was repaired.",
    grain="query x event that was late for it; x version that changed it since, and time and user before and after",
    key=(
        "query",
        "topic",
        "kafka_partition",
        "kafka_offset",
        "record_index",
        "event_time",
        "user_id",
        "source_version",
    ),
    columns=(
        Column("query", "string", "The streaming query for which it was late"),
        Column("topic", "string", "Kafka topic"),
        Column("kafka_partition", "int", "Kafka partition"),
        Column("kafka_offset", "bigint", "Offset in the topic partition"),
        Column("event_id", "string", "The event's own id"),
        Column("event_time", "timestamp", "When it happened"),
        Column("user_id", "string", "Who"),
        Column(
            "refused_windows",
            "bigint",
            "Windows of the event that were closed; 1 for pairs; for sessions 1, or 0: read",
        ),
        Column("watermark", "timestamp", "The watermark that had passed it"),
        Column("batch_id", "bigint", "The micro-batch that read it"),
        Column("refused_at", "timestamp", "Time of that micro-batch"),
        Column("repaired_at", "timestamp", "When the table had it; null until then"),
        Column("source_version", "bigint", "It is changed in this version of the query's source; null: it is as read"),
        Column("record_index", "int", "Place in the Kafka record's list; null: its topic's records hold no lists"),
    ),
    statistics_columns=("query", "event_time", "refused_at", "repaired_at"),
)

CHANGED_DAYS = TableSpec(
    name="platform.changed_days",
    description="For each day of a table that is partitioned by day: the newest version that changed its rows.",
    grain="table x day, and one row a table without a day",
    key=("table_name", "day"),
    columns=(
        Column("table_name", "string", "The table"),
        Column("day", "date", "The day (UTC) of its partition; null: the row says how far the table's log was read"),
        Column("version", "bigint", "Newest version that changed rows of the day; without a day: that was looked at"),
        Column("written_at", "timestamp", "When this was written"),
    ),
)

LOST_RANGES = TableSpec(
    name="platform.lost_ranges",
    description="Offsets that Kafka deleted before they were read, and who agreed to go on without them, and why.",
    grain="acknowledgement x topic partition",
    key=("topic", "kafka_partition", "from_offset", "acknowledged_at"),
    columns=(
        Column("topic", "string", "Kafka topic"),
        Column("kafka_partition", "int", "Kafka partition"),
        Column("from_offset", "bigint", "First offset that was not read"),
        Column("until_offset", "bigint", "First offset that Kafka still held; null: from here on it is another log"),
        Column("next_offset", "bigint", "Where reading goes on"),
        Column("acknowledged_by", "string", "Who agreed"),
        Column("reason", "string", "Why"),
        Column("acknowledged_at", "timestamp", "When"),
    ),
)

REQUEUED_RECORDS = TableSpec(
    name="platform.requeued_records",
    description="Quarantined records that were put through a later parser and taken in, by whom, and as what.",
    grain="one quarantined record that was re-ingested; of a list each of its records",
    key=("topic", "kafka_partition", "kafka_offset", "record_index"),
    columns=(
        Column("topic", "string", "Kafka topic"),
        Column("kafka_partition", "int", "Kafka partition"),
        Column("kafka_offset", "bigint", "Offset in the topic partition"),
        Column("reason", "string", "Why it had been quarantined"),
        Column("event_id", "string", "The event's own id"),
        Column("outcome", "string", "accepted: it is in silver.events; deduplicated: its event had been accepted"),
        Column("kept_topic", "string", "Deduplicated: topic of the record that was kept"),
        Column("kept_partition", "int", "Deduplicated: Kafka partition of the record that was kept"),
        Column("kept_offset", "bigint", "Deduplicated: offset of the record that was kept"),
        Column("requeue", "bigint", "Number of the requeue"),
        Column("requeued_by", "string", "Who"),
        Column("requeued_at", "timestamp", "When; the time of arrival of what was taken in"),
        Column("record_index", "int", "Place in the Kafka record's list; null: its topic's records hold no lists"),
    ),
    statistics_columns=("kafka_partition", "kafka_offset", "requeued_at"),
)

FORGOTTEN_USERS = TableSpec(
    name="platform.forgotten_users",
    description="The users whose records are erased, those read before and those that come: as salted hashes.",
    grain="user",
    key=("user_hash",),
    columns=(
        Column("user_hash", "string", "HMAC-SHA256 of the user_id, by the salt"),
        Column("salt", "string", "Hexadecimal; the same in all rows"),
        Column("forgotten_at", "timestamp", "When the erasure began"),
        Column("forgotten_by", "string", "Who called it"),
        Column("reason", "string", "Why"),
        Column("events_version", "bigint", "The newest version of silver.events that took rows of the user out"),
        Column("events_erased", "bigint", "How many rows that version took out"),
        Column("erased_at", "timestamp", "When no table had them any more; null: the erasure was cut short"),
        Column("id_bytes", "bigint", "Length of the user_id in UTF-8; null: by code that found whole words only"),
        Column("earlier_erasures", "string", "JSON: [version, rows] of silver.events before; of others with the table"),
    ),
    statistics_columns=("forgotten_at",),
)

ERASED_RECORDS = TableSpec(
    name="platform.erased_records",
    description="Kafka records of forgotten users: what is left of them, so that the ledger can count each offset.",
    grain="one erased Kafka record",
    key=("topic", "kafka_partition", "kafka_offset", "arrived_at"),
    columns=(
        Column("topic", "string", "Kafka topic"),
        Column("kafka_partition", "int", "Kafka partition"),
        Column("kafka_offset", "bigint", "Offset in the topic partition"),
        Column("arrived_at", "timestamp", "Time of the micro-batch that read it"),
        Column("was", "string", "Where it was: accepted, quarantined, deduplicated; (unsure_)on_arrival: nowhere"),
        Column("erased_at", "timestamp", "When"),
    ),
    statistics_columns=("kafka_partition", "kafka_offset", "arrived_at"),
)

EXPIRED_ROWS = TableSpec(
    name="platform.expired_rows",
    description="What HEADRACE_RETENTION_DAYS has removed of each table, so that the ledgers do not miss it.",
    grain="table x version that took expired rows out, and one row a table without a version",
    key=("table_name", "version"),
    columns=(
        Column("table_name", "string", "The table"),
        Column("version", "bigint", "Its version that took rows out; null: the row says how far its log was read"),
        Column("until_day", "date", "Rows of days (UTC) before this one have expired"),
        Column("rows", "bigint", "Rows that the version took out"),
        Column("removed_by", "string", "retention, or somebody: deleted by hand, of days that had expired"),
        Column("looked_at", "bigint", "The table's newest version then"),
        Column("written_at", "timestamp", "When this was written"),
    ),
)

AUDIT_LOG = TableSpec(
    name="platform.audit_log",
    description="Who changed data with which command, when and why, and what came of it. Rows are added only.",
    grain="attempt x outcome: one row where it begins, one where it ends; the first alone: it was killed, or goes on",
    key=("attempt_id", "outcome"),
    columns=(
        Column("attempt_id", "string", "The same in both rows of an attempt"),
        Column("at", "timestamp", "When it began, or ended"),
        Column("outcome", "string", "begun; then finished or failed"),
        Column("who", "string", "The account of the machine, or who launched the run as Dagster knows it"),
        Column("command", "string", "The command's name, of a job's run too"),
        Column("arguments", "string", "JSON: what it was asked to do, without users, cards and secrets"),
        Column("reason", "string", "Why, in the words of who called it"),
        Column("detail", "string", "finished: what was done; failed: the error"),
        Column("run_id", "string", "Dagster's run; null: from the command line"),
        Column("host", "string", "The machine"),
        Column("user_hash", "string", "Of forget-user: as in platform.forgotten_users; null before that has any"),
    ),
    statistics_columns=("at",),
)

ALERTS = TableSpec(
    name="platform.alerts",
    description="What has become of each alert: rows are added only. An alert without a row `closed` is open.",
    grain="alert x transition",
    key=("alert_id", "transition", "at"),
    columns=(
        Column("alert_id", "string", "The same in all rows of an alert"),
        Column("alert", "string", "Which kind: the name in platform_assets/alerts"),
        Column("key", "string", "What it is about; one alert of a kind and key is open at a time"),
        Column("transition", "string", "opened, repeated, acknowledged or closed"),
        Column("at", "timestamp", "When this row was made"),
        Column("severity", "string", "info, warning or critical"),
        Column("owner", "string", "Who is to look at it"),
        Column("text", "string", "What has happened, in a sentence"),
        Column("rows", "bigint", "Rows that have raised it since its row before; their sum is all of them"),
        Column("event_time", "timestamp", "When that happened which has opened it"),
        Column("raised_at", "timestamp", "When the newest row that has raised it was committed"),
        Column("source_table", "string", "The table whose rows have raised it"),
        Column("source_version", "bigint", "Its version up to which rows were looked at"),
        Column("user_id", "string", "Whose row has opened it; null: it is of no person"),
        Column("by", "string", "acknowledged: who has"),
        Column("reason", "string", "acknowledged: in the words of who has"),
    ),
    statistics_columns=("alert_id", "alert", "transition", "at"),
)

ALERT_POSITIONS = TableSpec(
    name="platform.alert_positions",
    description="How far each alert has read its table, and each channel platform.alerts. The newest row counts.",
    grain="reader x moment",
    key=("reader", "noted_at"),
    columns=(
        Column("reader", "string", "alert_<name> or channel_<name>"),
        Column("noted_at", "timestamp", "When this was written"),
        Column("table_id", "string", "The table's id in its own log"),
        Column("version", "bigint", "All up to this version was read"),
        Column("digest", "string", "Stands for that version's commit"),
        Column("committed_at", "timestamp", "When that version was committed"),
    ),
    statistics_columns=("reader", "noted_at"),
)

PLATFORM_TABLES = (
    LEDGER, HOP_LEDGER, QUERY_PROGRESS, LATE_EVENTS, COMPLETE_UNTIL, CHANGED_DAYS, LOST_RANGES, REQUEUED_RECORDS,
    FORGOTTEN_USERS, ERASED_RECORDS, EXPIRED_ROWS, AUDIT_LOG, ALERTS, ALERT_POSITIONS,
)  # fmt: skip
