"""The lease of a group: what holds across hosts, where the lock file does not reach. A run takes it, or an operation.

Its epoch rises with each holder. A holder that finds another's heartbeat of its own epoch or a higher one has been
replaced, and writes no more. Each write is a swap of the record that was seen last: of two that claim one wins, and one
that slept for hours in the middle of its heartbeat overwrites nobody's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import dagster as dg

from jobs.supervision.host import BEAT_SECONDS
from jobs.supervision.lease import HostReport, LeaseRecord, read_lease, swap_heartbeat
from jobs.supervision.lease_owner import Hold, describe, is_operation, judge_lease
from jobs.supervision.model import Heartbeat
from jobs.supervision.policy import Policy
from jobs.supervision.run_records import read_run
from platform_assets.errors import GroupOwnedError, InstanceUnavailableError, MissingDependencyError
from resources.processes import ProcessIdentity, identify, is_alive

# A heartbeat that is old by this host's clock may be of a host whose clock is behind: it beats five times meanwhile.
_SILENCE_SECONDS = 5 * BEAT_SECONDS
_POLL_SECONDS = 0.5
# Older code writes without a swap: it may win twice in a row, and not for ever.
_SWAPS = 5


class GroupLease:
    """One holder's lease on a group. Its methods may be called from any thread, and raise what the storage raises."""

    def __init__(self, instance: dg.DagsterInstance, group: str, holder_id: str) -> None:
        self.group = group
        self.epoch = 0
        self._instance = instance
        self._holder_id = holder_id
        self._text: str | None = None
        self._lock = threading.Lock()

    def read(self) -> LeaseRecord:
        """The record as it is now, of any holder."""
        return read_lease(self._instance, self.group)

    def claim(self, seen: LeaseRecord, build: Callable[[int], HostReport]) -> bool:
        """Takes the lease over, with the report that `build` makes for an epoch; False where others were quicker."""
        epoch = 1 if seen.heartbeat is None else seen.heartbeat.epoch + 1
        with self._lock:
            self._text = swap_heartbeat(self._instance, self.group, seen.text, build(epoch))
            self.epoch = epoch
            return self._text is not None

    def beat(self, report: HostReport) -> bool:
        """Renews the lease; False, and nothing is written, when another holder has it."""
        with self._lock:
            for _ in range(_SWAPS):
                if (text := swap_heartbeat(self._instance, self.group, self._text, report)) is not None:
                    self._text = text
                    return True
                seen = self.read()  # another holder's; or ours, whose answer got lost; or one that was replaced by us
                if self._is_anothers(seen.heartbeat):
                    return False
                self._text = seen.text
        raise InstanceUnavailableError(f"The lease of {self.group} is written by others again and again.")

    def is_replaced(self) -> bool:
        """Whether another holder has the lease."""
        return self._is_anothers(self.read().heartbeat)

    def _is_anothers(self, beat: Heartbeat | None) -> bool:
        if beat is None:
            return False
        return beat.epoch > self.epoch or (beat.epoch == self.epoch and beat.run_id != self._holder_id)


def claim_lease(
    lease: GroupLease,
    build: Callable[[int], HostReport],
    instance: dg.DagsterInstance,
    policy: Policy,
    *,
    wait_seconds: float = 0.0,
    replaces_runs: bool = False,
) -> None:
    """Claims the lease, once the group is free; the caller holds the group's lock of this host.

    `replaces_runs`: only an operation keeps it from that. The supervisor decides which run hosts a group, and replaces
    one that sleeps. Raises `GroupOwnedError`, naming the owner and its host, when that lasts for `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        seen = lease.read()
        hold = Hold.FREE
        if seen.heartbeat is not None and (is_operation(seen.heartbeat) or not replaces_runs):
            hold = _judge(seen.heartbeat, instance, policy)
        if hold is Hold.SILENT:
            time.sleep(_SILENCE_SECONDS)  # the swap then fails if the record has changed
        if hold is not Hold.HELD and lease.claim(seen, build):
            return
        if time.monotonic() >= deadline:
            raise GroupOwnedError(_describe_owner(lease, policy))
        time.sleep(_POLL_SECONDS)


def _judge(beat: Heartbeat, instance: dg.DagsterInstance, policy: Policy) -> Hold:
    run = None if is_operation(beat) else read_run(instance, beat.run_id)
    return judge_lease(beat, run, is_any_alive(beat), time.time(), policy)


def is_any_alive(beat: Heartbeat) -> bool | None:
    """Whether the host's process or its JVM lives; None when it is on another host."""
    alive = is_alive(beat.process)
    return is_alive(beat.jvm) if beat.jvm is not None and alive is False else alive


def identify_myself() -> ProcessIdentity:
    """This process, as its heartbeats name it. Raises `MissingDependencyError` where it cannot tell."""
    me = identify(os.getpid())
    if me is None:  # /proc without ourselves: no supervision is possible on such a host
        raise MissingDependencyError("This process cannot read its own entry under /proc. Mount it in the container.")
    return me


def _describe_owner(lease: GroupLease, policy: Policy) -> str:
    beat = lease.read().heartbeat
    owner = "another process" if beat is None else describe(beat, time.time())
    is_run = beat is not None and not is_operation(beat)
    way = f"Stop it first (headrace pause {lease.group}, or end that process)." if is_run else "Wait for its end."
    text = f"The stream group {lease.group} is owned by {owner}. {way}"
    if beat is None or is_alive(beat.process) is not None:
        return text
    limit = policy.silence_limit(beat.phase)
    return f"{text} If that host is dead, its hold ends {limit:.0f} s after it was last heard of: call this again then."
