"""The composition root: what Dagster loads. Small, and light to import: the daemon loads it again and again."""

from __future__ import annotations

import warnings
from datetime import timedelta

import dagster as dg

# `backfill_policy` is beta in Dagster 1.13; the version is pinned and tests hold what we rely on.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*backfill_policy.*")


@dg.definitions
def defs() -> dg.Definitions:
    """Everything the code location has. Settings are read here, once; a bad one fails the load with its name."""
    from jobs.definitions import fraud_alerts_page, fraud_model
    from jobs.definitions.acknowledge_alert import build_acknowledge_job
    from jobs.definitions.asset_checks import build_ledger_sensor, checks_hourly, checks_job
    from jobs.definitions.control_streams import build_control_streams_job
    from jobs.definitions.lineage import build_lineage_sensor
    from jobs.definitions.nightly_backup import build_backup_job, build_backup_schedule
    from jobs.definitions.notifications import build_notifications
    from jobs.definitions.release_card import build_release_job
    from jobs.definitions.replay_stream import build_replay_job
    from jobs.definitions.report_schedules import build_nightly_schedule, reports_follow_streams, reports_job
    from jobs.definitions.requeue_records import build_requeue_job
    from jobs.definitions.scheduled_drain import build_drain_job, build_drain_schedule
    from jobs.definitions.simulate_shop import simulate_shop
    from jobs.definitions.standing_verdicts import build_verdicts_sensor
    from jobs.definitions.stream_supervisor import build_stream_supervisor
    from jobs.definitions.streaming_job import build_streaming_job
    from jobs.supervision.stream_running import build_stream_running_checks
    from platform_assets.alerting.catalogue import load_groups
    from platform_assets.checks import build_checks
    from platform_assets.checks.backup_restored import build_backup_check
    from platform_assets.checks.busy_users import BusyUserLimits
    from platform_assets.checks.event_time import EventTimeLimits
    from platform_assets.checks.sink_parity import build_sink_check
    from platform_assets.fraud.assets import build_fraud_assets, has_payments
    from platform_assets.fraud.model_checks import build_model_checks
    from platform_assets.fraud.page_asset import build_page_asset, has_alerts
    from platform_assets.relays import load_relays
    from platform_assets.reports import build_report_assets, select_reports
    from platform_assets.reports.whole import select_whole_tables
    from platform_assets.reports.whole.assets import build_whole_assets
    from platform_assets.stream_assets import build_stream_assets
    from platform_assets.streaming.repair.expiry import check_policy
    from platform_assets.streams import load_all_streams
    from resources.duckdb import DuckDBResource
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.settings import load_settings
    from resources.spark.session import SparkResource

    settings = load_settings()
    limits = EventTimeLimits(
        (settings.ahead_warn_share, settings.ahead_error_share), timedelta(minutes=settings.standstill_minutes)
    )
    busy = BusyUserLimits(settings.busy_user_share, settings.busy_user_events)
    groups = load_groups()
    streams = [stream for group in groups for stream in group.streams]
    relays = load_relays(name for group in groups for name in group.relays)
    tables = [table for stream in streams for table in stream.tables]
    reports, wholes = select_reports(tables), select_whole_tables(tables)
    check_policy(load_all_streams(), settings.retention_days)
    streaming_job, drain_job = build_streaming_job(groups), build_drain_job(groups)
    backup_job, backups = build_backup_job(), LakehouseResource(root=settings.backup_place)
    with_fraud = has_payments(streams)
    fraud_jobs, fraud_schedules = fraud_model.build_jobs(settings.first_day) if with_fraud else ([], [])
    pages = [build_page_asset()] if has_alerts(group.name for group in groups) else []
    page_jobs = [fraud_alerts_page.build_page_job() for _ in pages]
    return dg.Definitions(
        assets=[
            *build_stream_assets(groups, settings.topic, settings.first_day),
            *build_report_assets(settings.reports_engine, settings.first_day, reports),
            *(build_fraud_assets(settings.first_day) if with_fraud else ()),
            *pages,
            *build_whole_assets(wholes),
        ],
        asset_checks=[
            *build_checks(streams, settings.topic, settings.reports_engine, settings.first_day, limits, busy, relays),
            *(build_model_checks() if with_fraud else ()),
            build_stream_running_checks(groups),
            *(
                [build_backup_check(lambda: backups.folder, timedelta(hours=settings.backup_max_age_hours))]
                if settings.backup_place
                else []
            ),
            *(build_sink_check(table) for group in groups for table in group.sinks),
        ],
        jobs=[
            streaming_job,
            drain_job,
            backup_job,
            build_control_streams_job(groups),
            build_replay_job(groups),
            build_requeue_job(groups),
            reports_job,
            simulate_shop,
            checks_job,
            *fraud_jobs,
            *([build_release_job()] if with_fraud else []),
            *([build_acknowledge_job()] if any(group.alerts for group in groups) else []),
            *page_jobs,
        ],
        sensors=[
            build_stream_supervisor(groups, streaming_job, settings),
            build_notifications(settings),
            build_lineage_sensor(groups, settings),
            reports_follow_streams,
            build_ledger_sensor(streams),
            build_verdicts_sensor(),
        ],
        schedules=[
            build_nightly_schedule(settings),
            checks_hourly,
            build_drain_schedule(groups, drain_job, settings),
            build_backup_schedule(backup_job, settings),
            *fraud_schedules,
            *map(fraud_alerts_page.build_page_schedule, page_jobs),
        ],
        # What is launched from an asset's page: one process, and so one Spark application.
        executor=dg.in_process_executor,
        resources={
            "duckdb": DuckDBResource(),
            "spark": SparkResource(app_name="reports"),
            "kafka": KafkaResource(bootstrap_servers=settings.kafka_bootstrap_servers),
            "lakehouse": LakehouseResource(root=settings.lakehouse),
        },
    )
