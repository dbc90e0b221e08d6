"""The Grafana dashboard, as code: `python -m deploy.grafana.build_dashboard` writes headrace.json next to this file.

Its expressions are built from `jobs.watching.metric_specs`, so that a metric that is renamed is renamed here too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from jobs.watching import metric_specs as specs

DASHBOARD = Path(__file__).parent / "headrace.json"

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_OF_GROUP = '{group=~"$group"}'
_HEIGHT, _HALF = 8, 12


@dataclass(frozen=True)
class _Panel:
    """One panel: what it shows (PromQL), in Grafana's unit, and the name of each line."""

    title: str
    expression: str
    legend: str
    unit: str = "short"


def _rate(metric: specs.MetricSpec, suffix: str = "") -> str:
    return f"rate({metric.name}{suffix}{_OF_GROUP}[$__rate_interval])"


def _age(metric: specs.MetricSpec) -> str:
    return f"time() - {metric.name}{_OF_GROUP}"


_SECTIONS = {
    "Groups": (
        _Panel("Phase", f"{specs.GROUP_PHASE.name}{_OF_GROUP} == 1", "{{group}}: {{phase}}"),
        _Panel("Starts in an hour", f"increase({specs.GROUP_STARTS.name}{_OF_GROUP}[1h])", "{{group}}"),
        _Panel("Age of the heartbeat", _age(specs.HEARTBEAT), "{{group}}", "s"),
        _Panel("Busy with one batch", f"{specs.STALLED.name}{_OF_GROUP}", "{{group}}", "s"),
        _Panel("Memory", f"{specs.MEMORY.name}{_OF_GROUP}", "{{group}}: {{process}}", "bytes"),
        _Panel("CPU cores", _rate(specs.CPU), "{{group}}: {{process}}"),
    ),
    "Streams": (
        _Panel("Rows a second", _rate(specs.ROWS), "{{query}}", "rowsps"),
        _Panel("Bytes a second, of Kafka", f"{_rate(specs.BYTES)} > 0", "{{query}}", "Bps"),
        _Panel("Records a second, by verdict", _rate(specs.RECORDS), "{{query}}: {{verdict}}"),
        _Panel("Lag, records", f"{specs.LAG_RECORDS.name}{_OF_GROUP}", "{{query}}"),
        _Panel("Lag, age of the oldest record", f"{specs.LAG_SECONDS.name}{_OF_GROUP}", "{{query}}", "s"),
        _Panel("Behind open transactions", f"{specs.HELD_RECORDS.name}{_OF_GROUP}", "{{query}}"),
        _Panel("Time until Kafka deletes what is unread", specs.TIME_TO_LOSS.name, "{{table}}", "s"),
        _Panel("Paused", f"{specs.PAUSED.name}{_OF_GROUP} == 1", "{{query}}"),
    ),
    "Batches": (
        _Panel(
            "Duration, 95th percentile",
            f"histogram_quantile(0.95, sum by (query, le) ({_rate(specs.BATCH_DURATION, '_bucket')}))",
            "{{query}}", "s",
        ),
        _Panel(
            "Duration, mean",
            f"{_rate(specs.BATCH_DURATION, '_sum')} / {_rate(specs.BATCH_DURATION, '_count')}", "{{query}}", "s",
        ),
        _Panel("Where the time goes", f"sum by (part) ({_rate(specs.BATCH_PARTS)})", "{{part}}", "percentunit"),
        _Panel("Since the newest batch began", _age(specs.LAST_BATCH), "{{query}}", "s"),
    ),
    "Time and state": (
        _Panel("Age of the watermark", _age(specs.WATERMARK), "{{query}}", "s"),
        _Panel("Age of what is final", _age(specs.COMPLETE_UNTIL), "{{query}}", "s"),
        _Panel("Rows of state", f"{specs.STATE_ROWS.name}{_OF_GROUP}", "{{query}}"),
        _Panel("Memory of state", f"{specs.STATE_MEMORY.name}{_OF_GROUP}", "{{query}}", "bytes"),
        _Panel("Late events that wait", f"{specs.LATE_PENDING.name}{_OF_GROUP}", "{{query}}"),
        _Panel("Late events repaired a second", _rate(specs.LATE_REPAIRED), "{{query}}"),
    ),
    "Tables in databases": (
        _Panel("Age of what a sink has not applied", f"{specs.SINK_LAG_SECONDS.name}{_OF_GROUP}", "{{query}}", "s"),
        _Panel("Sinks that stand still", f"{specs.SINK_STANDING.name}{_OF_GROUP} == 1", "{{query}}"),
        _Panel("Rows in the database", f"{specs.SINK_ROWS.name}{_OF_GROUP}", "{{query}}"),
        _Panel("Version in the database", f"{specs.SINK_VERSION.name}{_OF_GROUP}", "{{query}}"),
    ),
    "Alerts": (
        _Panel("Open", f"{specs.ALERTS_OPEN.name}{_OF_GROUP}", "{{query}}"),
        _Panel("Opened a second", _rate(specs.ALERTS_OPENED), "{{query}}"),
        _Panel("Closed a second", _rate(specs.ALERTS_CLOSED), "{{query}}"),
        _Panel("Told a second", _rate(specs.ALERTS_DELIVERED), "{{query}}"),
        _Panel("Age of what was not told", f"{specs.ALERTS_LAG_SECONDS.name}{_OF_GROUP}", "{{query}}", "s"),
        _Panel("Alerts and channels that stand still", f"{specs.ALERTS_STANDING.name}{_OF_GROUP} == 1", "{{query}}"),
    ),
    "Proof and platform": (
        _Panel("Failed checks", f"{specs.CHECK_FAILED.name} == 1", "{{table}}: {{check}} ({{severity}})"),
        _Panel(
            "Age of the ledger's verdict", f'time() - {specs.CHECK_VERDICT.name}{{check="ledger"}}', "{{table}}", "s"
        ),
        _Panel("Free disk", specs.DISK_FREE.name, "{{folder}}", "bytes"),
        _Panel("Free disk at which groups stop", specs.DISK_LIMIT.name, "limit", "bytes"),
        _Panel("Dagster's storage answers", specs.STORAGE_UP.name, "{{instance}}"),
        _Panel("Age of the supervisor's tick", f"time() - {specs.TICK_TIMESTAMP.name}", "{{instance}}", "s"),
        _Panel("Since the group is in its phase", _age(specs.GROUP_PHASE_START), "{{group}}", "s"),
    ),
}  # fmt: skip


def build_dashboard() -> str:
    """The dashboard's JSON, the same each time."""
    board = (
        dashboard.Dashboard("Headrace")
        .uid("headrace")
        .tags(["headrace"])
        .timezone("utc")
        .refresh("30s")
        .time("now-3h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("group")
            .datasource(_SOURCE)
            .query(f"label_values({specs.GROUP_PHASE.name}, group)")
            .multi(True)
            .include_all(True)
        )
    )
    numbers = itertools.count(1)
    for title, panels in _SECTIONS.items():
        board = board.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            board = board.with_panel(_build_panel(panel).id(next(numbers)))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _build_panel(panel: _Panel) -> timeseries.Panel:
    query = prometheus.Dataquery().expr(panel.expression).legend_format(panel.legend).ref_id("A")
    return (
        timeseries.Panel()
        .title(panel.title)
        .unit(panel.unit)
        .min(0)
        .height(_HEIGHT)
        .span(_HALF)
        .datasource(_SOURCE)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .with_target(query)
    )


if __name__ == "__main__":
    DASHBOARD.write_text(build_dashboard())
