"""All reports as Dagster assets of one op: one process and one engine, whatever is asked for.

A run goes through its days in chunks. Each chunk of a report is one commit, followed by the days' states; so a run that
was cut short has lost the chunk in hand at most, and the next one leaves out what is done. Days whose inputs have not
changed are not computed again.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from platform_assets.reports.asset_specs import CUSTOMERS_KEY, describe_assets, report_key
from platform_assets.reports.backfills import Backfill, read_backfill
from platform_assets.reports.customer_360 import CUSTOMER_360_TABLE, read_included_version, update_customers
from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE
from platform_assets.reports.daily_page import DAILY_PAGE_KEY, write_daily_page
from platform_assets.reports.daily_report import (
    DailyReport,
    InputRows,
    PinnedTable,
    ReportCommit,
    pin_table,
    remove_replaced_files,
)
from platform_assets.reports.day_exceptions import find_exceptions
from platform_assets.reports.day_states import (
    DayState,
    InputChanges,
    find_stale_days,
    read_final_until,
    read_states,
    state_of,
    write_states,
)
from platform_assets.reports.days import DayRange, day_range_of, split_days
from platform_assets.reports.presentation import PREVIEW_ROWS, describe_rows
from platform_assets.reports.report_engine import EngineName, Engines, opened_engines
from platform_assets.reports.report_sources import SHOP, ReportSource
from platform_assets.tables.spec import TableSpec
from resources.settings import load_settings

# Two batch Spark applications next to the streaming one would not fit a small machine's memory: the instance lets one
# run of this pool go on at a time.
BATCH_SPARK_POOL = "batch_spark"

# Two runs at once would compute the same days twice, and add the same days to the customers' table. Reports by DuckDB
# need no Spark and so do not wait behind a check that does.
REPORTS_POOL = "reports"

# In the run's tags: days that have not changed get no materialization that says so. For the nightly run over all days.
# Its value is the first of them. The run's partitions are those that are looked at in any case, of the days before only
# what has changed is computed: Dagster takes minutes for a run with thousands of partitions.
ONLY_CHANGED_TAG = "headrace/only_changed_days"

# A chunk is what an interruption may cost. A chunk costs planning and committing besides its rows: by Spark some
# seconds; with fewer days a backfill of 90 spends most of its time on these.
DAYS_OF_ONE_CHUNK = 10


def build_report_assets(
    reports: Sequence[DailyReport], partitions: dg.DailyPartitionsDefinition, engine: EngineName
) -> dg.AssetsDefinition:
    """One op for these daily reports and their daily page; of the shop's also the customers' table, if they are there.

    Any of them can be left out of a run.

    Needs the resources `lakehouse` and `duckdb`, and for the engine `spark` that too. A report that fails does not keep
    the others from being computed: the run fails at its end, naming each.
    """

    @dg.multi_asset(
        name="compute_reports",
        specs=describe_assets(reports, partitions, engine),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=BATCH_SPARK_POOL if engine == "spark" else REPORTS_POOL,
        required_resource_keys={engine, "duckdb", "lakehouse"},
    )
    def compute_reports(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        with opened_engines(engine, context.resources) as engines:
            # The days of its other runs go along where each would start Spark.
            backfill = read_backfill(context) if engine == "spark" else Backfill()
            sources = {report.source for report in reports}
            yield from compute_selected(_Run(context, engines, backfill, sources))

    def compute_selected(run: _Run) -> Iterator[dg.MaterializeResult[Any]]:
        selected = run.context.selected_asset_keys
        computed, of_shop = set[date](), set[date]()
        for report in reports:
            if report_key(report) in selected:
                with run.noted(report.table.name):
                    days = _compute_report(run, report)
                    computed |= days
                    of_shop |= days if report.source == SHOP else set()
        if DAILY_PAGE_KEY in selected:
            with run.noted("the daily page"):
                _write_pages(run, reports, computed)
        if CUSTOMERS_KEY in selected or (of_shop and CUSTOMERS_KEY in run.backfill.others):
            with run.noted(CUSTOMER_360_TABLE.name):
                _update_customers(run)
        yield from run.results()
        run.raise_failures()

    return compute_reports


class _Run:
    """What a run has to say: each day's materialization, and what failed while the others went on."""

    def __init__(
        self, context: dg.AssetExecutionContext, engines: Engines, backfill: Backfill, sources: Iterable[ReportSource]
    ) -> None:
        self.context = context
        self.engine = engines.computes
        self.backfill = backfill
        self._looks = engines.looks
        self.lakehouse = context.resources.lakehouse
        self.is_nightly = ONLY_CHANGED_TAG in context.run.tags
        self.first_day = context.run.tags.get(ONLY_CHANGED_TAG)
        # Before any input is pinned: what is complete by then is in the versions that are read.
        self.final_until = {source: read_final_until(self.lakehouse, source) for source in sources}
        self.changes = InputChanges(self.lakehouse)
        self._pinned: dict[str, PinnedTable] = {}
        if self.is_nightly and (early := self.changes.find_before(self.days.first)):
            context.log.warning(
                f"{len(early)} days from {min(early)} on have rows and no reports, which begin with {self.days.first}. "
                "Set HEADRACE_FIRST_DAY to have them."
            )
        self._exceptions: dict[ReportSource, Mapping[date, str]] = {}
        self._said: dict[dg.AssetKey, list[str]] = {}
        self._failures: list[str] = []

    @property
    def days(self) -> DayRange:
        """The days of the run; of those before `look_from` only what has changed."""
        own = day_range_of(self.context)
        return own if self.first_day is None else DayRange(min(own.first, date.fromisoformat(self.first_day)), own.last)

    @property
    def look_from(self) -> date:
        """The first of the days that are looked at in any case."""
        return date.min if self.first_day is None else day_range_of(self.context).first

    def ranges_of(self, report: DailyReport) -> list[DayRange]:
        """The days of the run, and those of the other runs of its backfill."""
        days = {*self.days.days(), *self.backfill.days.get(report_key(report), ())}
        return split_days(days, len(days))

    def pin(self, report: DailyReport) -> list[PinnedTable]:
        """The report's inputs, at versions that are the same for all reports of the run."""
        return [self._pin(source.table) for source in report.inputs]

    def _pin(self, table: TableSpec) -> PinnedTable:
        if table.name not in self._pinned:
            self._pinned[table.name] = pin_table(self.lakehouse, table)
        return self._pinned[table.name]

    def exceptions_of(self, source: ReportSource) -> Mapping[date, str]:
        """What each final day of the run still lacks, as the inputs are pinned; days that lack nothing are left out."""
        if source not in self._exceptions:
            longest = timedelta(hours=load_settings().longest_session_hours)
            days = sorted({*self.days.days(), *(day for own in self.backfill.days.values() for day in own)})
            self._exceptions[source] = find_exceptions(
                source, days, self.final_until[source], self._looks, self.lakehouse, self._pin, longest
            )
        return self._exceptions[source]

    def say(self, key: dg.AssetKey, day: date | None, metadata: Mapping[str, Any]) -> None:
        """Takes down a materialization. A backfill of several chunks tells of each as soon as it is committed.

        Dagster materializes all days of the run when the op yields the asset, and then runs the asset's checks; for the
        nightly run's few days of many there is only the event, as for what other runs of the backfill were to compute.
        """
        is_others = key not in self.context.selected_asset_keys or (day is not None and day not in self.days.days())
        if self.is_nightly or is_others:
            partition = None if day is None else str(day)
            self.context.log_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))
            return
        self._said.setdefault(key, [])
        if day is None:
            self.context.add_asset_metadata(metadata, key)
            return
        self.context.add_asset_metadata(metadata, key, str(day))
        if len(self.days.days()) > DAYS_OF_ONE_CHUNK:
            self.context.log_event(dg.AssetMaterialization(key, partition=str(day)))

    def results(self) -> Iterator[dg.MaterializeResult[Any]]:
        """The results of each asset that has something to report."""
        for key in self._said:
            yield dg.MaterializeResult(asset_key=key)

    @contextmanager
    def noted(self, name: str) -> Iterator[None]:
        """Notes what fails in the block; a stop of the run goes through."""
        try:
            yield
        except dg.Failure as failure:
            self._failures.append(f"{name}: {failure.description}")
        except Exception as error:
            self._failures.append(f"{name}: {type(error).__name__}: {error}")
            self.context.log.error(f"{name} failed.", exc_info=True)

    def raise_failures(self) -> None:
        """Raises one `dg.Failure` for all of them."""
        if self._failures:
            raise dg.Failure("\n".join(self._failures), allow_retries=False)


def _compute_report(run: _Run, report: DailyReport) -> set[date]:
    """Computes the stale days among the run's; returns them."""
    report = report.resolve()
    pinned = run.pin(report)
    ranges = run.ranges_of(report)
    final_until, exceptions = run.final_until[report.source], run.exceptions_of(report.source)
    stale = [
        day
        for days in ranges
        for day in find_stale_days(
            report, days, pinned, final_until, run.lakehouse, run.changes, run.look_from, exceptions
        )
    ]
    count = sum(len(days.days()) for days in ranges)
    run.context.log.info(f"{report.table.name}: {len(stale)} of {count} days are to be computed.")
    for chunk in split_days(stale, DAYS_OF_ONE_CHUNK):
        _compute_chunk(run, report, chunk, pinned)
    if stale:
        remove_replaced_files(run.lakehouse.delta_table(report.table.name))
    if not run.is_nightly:
        for state in read_states(run.lakehouse, report.table.name, run.days):
            if state.report_date not in stale:
                _say_unchanged(run, report, state)
    return set(stale)


def _compute_chunk(run: _Run, report: DailyReport, days: DayRange, pinned: Sequence[PinnedTable]) -> None:
    import pyarrow.dataset as ds

    inputs = [source.rows_of(table, days) for source, table in zip(report.inputs, pinned, strict=True)]
    commit = ReportCommit(days, {table.name: table.version for table in pinned})
    run.engine.replace(report.sql, inputs, report.table, commit)
    # Read back from the table, whichever engine wrote it: one that only its writer can read fails here.
    table = run.lakehouse.delta_table(report.table.name)
    # Another run may have replaced the day since: of that one's rows this run must not say that they are its own.
    table.load_as_version(commit.find_version(table))
    written, of_day = table.to_pyarrow_dataset(), {day: ds.field(report.day_column) == day for day in days.days()}
    now, versions = datetime.now(UTC), json.dumps(commit.inputs)
    final_until, exceptions = run.final_until[report.source], run.exceptions_of(report.source)
    states = [
        DayState(
            report.table.name, day, state_of(day, final_until), written.count_rows(filter=own), table.version(),
            versions, report.code_version, now, exceptions.get(day),
        )
        for day, own in of_day.items()
    ]  # fmt: skip
    pictures = _draw_pictures(run, report, inputs, days)
    write_states(run.lakehouse, states, days)
    for state in states:
        preview = written.head(PREVIEW_ROWS, filter=of_day[state.report_date]).to_pylist()
        metadata = describe_rows(report.table, state.report_rows, preview, state.report_version)
        if report.picture is not None:
            metadata[report.picture.name] = dg.MetadataValue.md(pictures[state.report_date])
        run.say(report_key(report), state.report_date, {**metadata, **_describe_state(state)})


def _draw_pictures(run: _Run, report: DailyReport, inputs: Sequence[InputRows], days: DayRange) -> Mapping[date, str]:
    """Each day's picture as a Markdown image; none for a report without one."""
    picture = report.picture
    if picture is None:
        return {}
    counts = {day: [0] * picture.positions for day in days.days()}
    for row in run.engine.fetch(picture.sql, inputs).to_pylist():
        if row["day"] in counts:
            counts[row["day"]][row["position"]] = row["n"]
    return {day: picture.draw(numbers, str(day)) for day, numbers in counts.items()}


def _say_unchanged(run: _Run, report: DailyReport, state: DayState) -> None:
    metadata = {
        "headrace/unchanged": f"computed {state.computed_at:%Y-%m-%d %H:%M} UTC; no input has changed since",
        "dagster/row_count": state.report_rows,
        **_describe_state(state),
    }
    run.say(report_key(report), state.report_date, metadata)


def _describe_state(state: DayState) -> dict[str, Any]:
    lacking = {} if state.exceptions is None else {"headrace/exceptions": state.exceptions}
    return {"headrace/state": state.state, **lacking, "headrace/inputs": state.inputs}


def _update_customers(run: _Run) -> None:
    table = update_customers(run.engine, run.lakehouse)
    dataset = table.to_pyarrow_dataset()
    preview = dataset.head(PREVIEW_ROWS).to_pylist()
    metadata = {
        **describe_rows(CUSTOMER_360_TABLE, dataset.count_rows(), preview, table.version()),
        "headrace/inputs": json.dumps({CUSTOMER_DAYS_TABLE.name: read_included_version(table)}),
    }
    run.say(CUSTOMERS_KEY, None, metadata)


def _write_pages(run: _Run, reports: Sequence[DailyReport], computed: set[date]) -> None:
    for day in run.days.days():
        if day in computed or not run.is_nightly:
            place = write_daily_page(run.lakehouse, reports, day)
            if place is not None:
                run.say(DAILY_PAGE_KEY, day, {"page": dg.MetadataValue.path(place)})
