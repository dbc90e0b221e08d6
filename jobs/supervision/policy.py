"""How patient the supervisor is: each number, and the failure it prevents."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from resources.settings import Settings


@dataclass(frozen=True)
class Policy:
    """Limits in seconds. Built from settings; the defaults are the settings' own."""

    heartbeat_timeout: float = 30.0
    # A batch is bounded (rows of a trigger); one that takes this long waits for something that does not come. Shorter
    # would kill a group that restores gigabytes of state, again and again.
    stuck_timeout: float = 600.0
    # A batch that needs longer than the limit would be stopped and begun again for ever.
    stuck_doublings: int = 3
    stop_grace: float = 60.0
    backoff: float = 5.0
    backoff_cap: float = 300.0
    crash_loop_failures: int = 5
    crash_loop_window: float = 900.0
    # A group held for a crash loop whose cause has passed must come back without a person; two probes an hour cost two
    # JVM starts. While the broker does not answer the probes come each `backoff_cap`, and cost none.
    probe_interval: float = 1800.0
    # The first start resolves jars and starts a JVM on a busy machine: 5-150 s seen. Without a longer limit than the
    # heartbeat's a slow start would be stopped as hung, for ever.
    start_timeout: float = 300.0
    # The host polls its stop record every 2 s and closes Spark after its batches: shorter would cancel a clean stop.
    stop_slack: float = 15.0
    # Spark's JVM ends 0.3-2 s after its host. On a full machine one was still at it after 75 s: nothing was committed.
    jvm_grace: float = 10.0
    # Batch times and heap creep up over days, and a run's event page grows: a planned restart a day keeps both bounded.
    recycle_after: float = 86_400.0

    def stuck_limit(self, stops: int) -> float:
        """Seconds a query may be busy with one batch, after `stops` runs in a row were stopped for such a batch."""
        return self.stuck_timeout * 2.0 ** min(stops, self.stuck_doublings)

    def silence_limit(self, phase: str) -> float:
        """Seconds after which a heartbeat of this phase is old: one who starts or stops says so once, and is busy."""
        if phase == "starting":
            return self.start_timeout
        return self.stop_grace + self.heartbeat_timeout if phase == "stopping" else self.heartbeat_timeout

    def delay(self, failures: int, run_id: str) -> float:
        """Seconds to wait after the last of `failures` (1 or more) failures in a row, jittered by the run's id.

        The first failure waits nothing: most deaths are accidents. The jitter is deterministic: two ticks agree.
        """
        if failures <= 1:
            return 0.0
        exponent = min(failures - 2, 30)  # 2**30 seconds is beyond any cap; larger powers overflow floats
        base = min(self.backoff * 2.0**exponent, self.backoff_cap)
        fraction = int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:4], "big") / 2**32
        return min(base * (0.8 + 0.4 * fraction), self.backoff_cap)


def build_policy(settings: Settings) -> Policy:
    """The policy that the settings ask for."""
    return Policy(
        heartbeat_timeout=float(settings.heartbeat_timeout_seconds),
        stuck_timeout=float(settings.stuck_timeout_seconds),
        stop_grace=float(settings.stop_grace_seconds),
        backoff=settings.backoff_seconds,
        backoff_cap=settings.backoff_cap_seconds,
        crash_loop_failures=settings.crash_loop_failures,
        crash_loop_window=settings.crash_loop_minutes * 60.0,
    )
