"""The asset checks, as the composition root takes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import chain

import dagster as dg

from platform_assets.checks.busy_users import BusyUserLimits, build_busy_users_checks
from platform_assets.checks.event_time import EventTimeLimits, build_event_time_checks
from platform_assets.reports.days import FIRST_DAY
from platform_assets.reports.report_engine import EngineName
from platform_assets.streaming.relay_spec import RelayStream
from platform_assets.streaming.stream_spec import Stream, name_topics, select_ingest


def build_checks(
    streams: Sequence[Stream],
    shop_topic: str,
    engine: EngineName,
    first_day: date = FIRST_DAY,
    limits: EventTimeLimits | None = None,
    busy: BusyUserLimits | None = None,
    relays: Sequence[RelayStream] = (),
) -> list[dg.AssetChecksDefinition]:
    """All checks of the streams' tables, the platform's own tables and the reports, which begin with `first_day`.

    `shop_topic` as in `name_topics`; `relays` are those of the enabled groups.
    """
    from platform_assets.checks.different_content import build_different_content_checks
    from platform_assets.checks.freshness import (
        build_ingest_freshness_checks,
        build_report_freshness_checks,
        build_stream_freshness_checks,
        build_whole_freshness_checks,
    )
    from platform_assets.checks.hop_ledger import build_hop_ledger_checks
    from platform_assets.checks.ledger import build_ledger_checks
    from platform_assets.checks.measured_recall import build_recall_checks
    from platform_assets.checks.parity import build_parity_checks
    from platform_assets.checks.repeated_events import build_repeated_events_checks
    from platform_assets.checks.replication import build_replication_checks
    from platform_assets.checks.report_consistency import build_report_consistency_checks
    from platform_assets.checks.schema_contract import build_schema_contract_checks
    from platform_assets.checks.schemas import build_schemas_checks
    from platform_assets.checks.scored import build_scored_check
    from platform_assets.checks.scoring_quality import build_scoring_checks
    from platform_assets.checks.table_files import build_table_files_checks
    from platform_assets.checks.time_to_loss import build_time_to_loss_checks
    from platform_assets.fraud.assets import has_payments
    from platform_assets.reports import list_report_tables, select_reports
    from platform_assets.reports.day_states import REPORT_DAYS
    from platform_assets.reports.whole import select_whole_tables
    from platform_assets.tables.fraud import CARD_RELEASES, FRAUD_TABLES
    from platform_assets.tables.platform import PLATFORM_TABLES
    from platform_assets.topics.fraud_scores import FRAUD_SCORES

    kafka, topics = select_ingest(streams), name_topics(streams, shop_topic)
    tables = [table for stream in streams for table in stream.tables]
    kept = [table for relay in relays for table in relay.tables]
    reports, wholes = list_report_tables(select_reports(tables)), select_whole_tables(tables)
    fraud = (*FRAUD_TABLES, CARD_RELEASES) if has_payments(streams) else ()
    contracts = [*tables, *PLATFORM_TABLES, *reports, *(whole.table for whole in wholes), REPORT_DAYS, *kept, *fraud]
    return [
        *build_ledger_checks(kafka),
        *build_event_time_checks(kafka, limits or EventTimeLimits()),
        *build_hop_ledger_checks(streams),
        *build_time_to_loss_checks(kafka, topics),
        *build_replication_checks(kafka, topics),
        *build_schema_contract_checks(contracts),
        *build_schemas_checks(kafka),
        *build_table_files_checks(tables),
        *chain.from_iterable(build_ingest_freshness_checks([s.main_table], topics[s.name]) for s in kafka),
        *build_stream_freshness_checks(streams),
        *build_parity_checks(streams, engine),
        *build_repeated_events_checks(streams),
        *build_different_content_checks(streams),
        *build_busy_users_checks(streams, busy or BusyUserLimits()),
        *([build_scored_check(), *build_scoring_checks()] if relays and FRAUD_SCORES in tables else []),
        *build_report_freshness_checks(reports, first_day=first_day),
        *build_whole_freshness_checks(wholes),
        *build_recall_checks(wholes),
        *build_report_consistency_checks(reports),
    ]
