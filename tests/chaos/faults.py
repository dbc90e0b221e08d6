"""The failure table: what is done to the platform, and which phases it must show."""

from __future__ import annotations

from jobs.supervision.model import Phase
from tests.chaos import maintenance_faults, platform_faults, run_faults, surrounding_faults, table_faults
from tests.chaos.fault import Fault

# Between each pair of steps in which a batch, or the accounts of batches, are written.
CRASH_POINTS = (
    table_faults.kill_at("before", "silver.deduplicated_events"),
    table_faults.kill_at("after", "silver.deduplicated_events"),
    table_faults.kill_at("after", "silver.quarantined_events"),
    table_faults.kill_at("after", "silver.events"),
    table_faults.kill_at("before", "platform.late_events"),
    table_faults.kill_at("after", "platform.late_events"),
    table_faults.kill_at("before", "gold.sessions"),
    table_faults.kill_at("after", "gold.sessions"),
    table_faults.kill_at("after", "gold.view_to_purchase"),
    table_faults.kill_at("after", "platform.ledger"),
    table_faults.kill_at("after", "platform.hop_ledger"),
)
# The run is gone, and another has taken its place.
_BACK = (Phase.LAUNCHING, Phase.RUNNING)
# What happens to a platform on its own, or to a person who has it on a machine.
FAILURES = (
    *CRASH_POINTS,
    Fault("kill -9 of the run's process", run_faults.kill_run, _BACK),
    Fault("kill -9 of the JVM", run_faults.kill_jvm, _BACK),
    Fault("kill -9 of Spark's Python processes", run_faults.kill_workers, _BACK),
    Fault("SIGTERM to the run's process", run_faults.interrupt_run, _BACK),
    Fault("Terminate, then resume", run_faults.terminate_run, (Phase.HELD_OPERATOR, *_BACK)),
    Fault("Dagster calls a living run failed", run_faults.report_failed, _BACK),
    Fault("a second run is launched by hand", run_faults.launch_by_hand, (Phase.RUNNING,)),
    Fault("a drain during the run", platform_faults.drain_during_run, (Phase.RUNNING,)),
    Fault("a second platform on the home", platform_faults.start_platform_twice, (Phase.RUNNING,)),
    # One daemon asks for the run and the other sees it queued: LAUNCHING may be shown for less than a look.
    Fault("two daemons, and a kill -9", platform_faults.run_two_daemons, (Phase.RUNNING, Phase.RUNNING)),
    Fault("broker away for 20 s", surrounding_faults.freeze_broker, (Phase.RUNNING,)),
    Fault("broker away for minutes", surrounding_faults.freeze_broker_for_long, (Phase.BACKOFF, *_BACK)),
    Fault("kill -9 of the broker", surrounding_faults.kill_broker, (Phase.RUNNING,)),
    Fault("a query stuck for longer than its limit", surrounding_faults.stick, (Phase.STOPPING, *_BACK)),
    Fault("the run's process sleeps, and wakes", run_faults.freeze_run_and_wake_it, (Phase.SUSPECT, Phase.RUNNING)),
    Fault("process and JVM sleep for 90 s", run_faults.freeze_all_and_wake_them, (Phase.SUSPECT, Phase.RUNNING)),
    Fault("disk nearly full", surrounding_faults.fill_disk, (Phase.NEEDS_ATTENTION, *_BACK)),
    Fault("the run's process hangs", run_faults.freeze_run, (Phase.SUSPECT, Phase.STOPPING, *_BACK)),
    Fault("the JVM hangs", run_faults.freeze_jvm, (Phase.SUSPECT, Phase.STOPPING, Phase.ORPHAN, *_BACK)),
    Fault("kill -9 of the code server", platform_faults.kill_code_server, (Phase.RUNNING,)),
    Fault("kill -9 of the daemon", platform_faults.kill_daemon, _BACK),
    Fault("kill -9 of all of Dagster for 15 s", platform_faults.kill_services, (Phase.RUNNING,)),
    Fault("changed settings", platform_faults.change_settings, (Phase.STOPPING, *_BACK)),
    Fault("SIGTERM to the platform, and a start", platform_faults.restart_platform, _BACK),
    Fault("power fails", platform_faults.lose_power, _BACK),
    Fault("Dagster's database away for 20 s", surrounding_faults.lock_database, (Phase.RUNNING,)),
    Fault("a checkpoint is lost", surrounding_faults.lose_checkpoint, (Phase.NEEDS_ATTENTION, *_BACK)),
    Fault(
        "killed at each start", run_faults.crash_again_and_again,
        (Phase.BACKOFF, Phase.HELD_CRASH_LOOP, *_BACK),
    ),
)  # fmt: skip
# What people do to it that takes its time, and a kill in its middle.
MAINTENANCE = (
    Fault("on a schedule, and back", platform_faults.go_by_schedule, (Phase.DISABLED, *_BACK)),
    Fault("a table is replayed", table_faults.replay, (Phase.HELD_OPERATOR, *_BACK)),
    Fault("a replay is killed in its swap", table_faults.kill_replay, (Phase.HELD_OPERATOR, *_BACK)),
    Fault("a rehearsal is killed", table_faults.kill_rehearsal, (Phase.RUNNING,)),
    Fault(
        "rows are lost, and their replay is killed", table_faults.lose_rows_and_kill_replay,
        (Phase.HELD_OPERATOR, *_BACK),
    ),
    Fault("a partition is added, and a kill -9", maintenance_faults.add_partition, _BACK),
    Fault("a requeue is killed", maintenance_faults.kill_requeue, (Phase.HELD_OPERATOR, *_BACK)),
    Fault("a backup is killed", maintenance_faults.kill_backup, (Phase.HELD_OPERATOR, *_BACK)),
    Fault("a user is forgotten", table_faults.forget, (Phase.HELD_OPERATOR, *_BACK)),
    Fault("a forgetting is killed", table_faults.kill_forgetting, (Phase.HELD_OPERATOR, *_BACK)),
)  # fmt: skip
FAULTS = (*FAILURES, *MAINTENANCE)
