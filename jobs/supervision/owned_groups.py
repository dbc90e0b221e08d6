"""Owns groups for an operation, on this host by their locks and across hosts by their leases."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import dagster as dg

from jobs.supervision.dagster_home import open_instance
from jobs.supervision.group_lease import GroupLease, claim_lease, identify_myself
from jobs.supervision.group_lock import LockMode, hold_group_lock
from jobs.supervision.host import BEAT_SECONDS
from jobs.supervision.lease import HostReport
from jobs.supervision.lease_owner import OPERATING, RELEASED, name_operation
from jobs.supervision.model import Heartbeat
from jobs.supervision.policy import Policy, build_policy
from jobs.supervision.storage_errors import name_cause
from platform_assets.errors import GroupOwnedError, InstanceUnavailableError
from resources.settings import Settings

_log = logging.getLogger(__name__)

# A run has let go of its lock a moment before Dagster calls it ended: without patience a command that follows a pause
# would be refused.
_PATIENCE_SECONDS = 5.0


class OwnedGroups:
    """The groups that an operation owns, and the descriptors of their locks, for a JVM to inherit.

    Without leases (no instance was ever made, so no host shares one) the locks alone hold.
    """

    def __init__(self, lock_fds: Sequence[int], leases: Sequence[_OperationLease] = ()) -> None:
        self.lock_fds = tuple(lock_fds)
        self._leases = leases

    @classmethod
    def of(cls, parts: Sequence[OwnedGroups]) -> OwnedGroups:
        """What was taken one after the other, as one."""
        return cls([fd for part in parts for fd in part.lock_fds], [each for part in parts for each in part._leases])

    def demand(self) -> None:
        """Raises unless the groups are ours now: before each step that nobody can take back. From any thread.

        `GroupOwnedError` when another host has taken one over; `InstanceUnavailableError` when the storage does not
        say. Renews the leases: for the heartbeat's timeout from here on nobody takes them over.
        """
        for lease in self._leases:
            lease.demand()

    def check_lease(self) -> None:
        """Raises `GroupOwnedError` when another host has taken over: before a commit of a stream's batch.

        Where the storage does not answer the table's transaction refuses the second of two commits.
        """
        for lease in self._leases:
            lease.check()


@contextmanager
def own_groups(
    names: Sequence[str],
    mode: LockMode,
    settings: Settings,
    instance: dg.DagsterInstance | None = None,
    *,
    wait_seconds: float | None = None,
) -> Iterator[OwnedGroups]:
    """Takes the locks and the leases of these groups, and beats for them until the block ends.

    `instance`: that of `settings` where none is given. No run of any host writes meanwhile, and no other operation. A
    block that is killed holds the groups until its heartbeat is old, as a run does. Raises `GroupOwnedError` for a
    group that is owned for longer than `wait_seconds` (None: a moment; by its lock: than a look at it takes), and for
    one that was taken over before the block has ended; `InstanceUnavailableError`, `StorageError`.
    """
    with ExitStack() as stack:
        lock_fds = [stack.enter_context(hold_group_lock(settings.home, name, mode)) for name in names]
        shared = instance if instance is not None else stack.enter_context(open_instance(settings))
        if shared is None:
            yield OwnedGroups(lock_fds)
            return
        operation, policy, leases = name_operation(mode), build_policy(settings), list[_OperationLease]()
        deadline = time.monotonic() + (_PATIENCE_SECONDS if wait_seconds is None else wait_seconds)
        for name in names:
            lease = _OperationLease(shared, name, operation)
            lease.claim(policy, max(0.0, deadline - time.monotonic()))
            stack.callback(lease.release)
            leases.append(lease)
        owned = OwnedGroups(lock_fds, leases)
        with _beating(leases):
            yield owned
        for lease in leases:
            lease.end()


@contextmanager
def _beating(leases: Sequence[_OperationLease]) -> Iterator[None]:
    """Renews the leases on a thread, as often as a run's host does."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(BEAT_SECONDS):
            for lease in leases:
                lease.renew()

    thread = threading.Thread(target=beat, name="operation-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class _OperationLease:
    """The lease of one group, in the hand of an operation."""

    def __init__(self, instance: dg.DagsterInstance, group: str, operation: str) -> None:
        self._lease = GroupLease(instance, group, operation)
        self._instance = instance
        self._operation = operation
        self._me = identify_myself()

    def claim(self, policy: Policy, wait_seconds: float) -> None:
        try:
            claim_lease(self._lease, self._build, self._instance, policy, wait_seconds=wait_seconds)
        except GroupOwnedError:
            raise
        except Exception as error:
            raise self._unanswered(error) from error

    def demand(self) -> None:
        try:
            is_ours = self._lease.beat(self._build(self._lease.epoch))
        except Exception as error:
            raise self._unanswered(error) from error
        if not is_ours:
            raise self._replaced()

    def check(self) -> None:
        try:
            is_replaced = self._lease.is_replaced()
        except Exception:  # noqa: BLE001
            return  # the thread that beats meets the same, and says so
        if is_replaced:
            raise self._replaced()

    def renew(self) -> None:
        try:
            self._lease.beat(self._build(self._lease.epoch))
        except Exception:  # noqa: BLE001
            _log.warning("The lease of %s could not be renewed; it is tried again.", self._lease.group, exc_info=True)

    def end(self) -> None:
        """Raises `GroupOwnedError` when the group was taken over before the operation has ended."""
        try:
            is_replaced = self._lease.is_replaced()
        except Exception:  # noqa: BLE001
            return  # what nobody can take back has been behind a demand; `release` logs the trouble
        if is_replaced:
            raise self._replaced()

    def release(self) -> None:
        try:
            self._lease.beat(self._build(self._lease.epoch, RELEASED))
        except Exception:  # noqa: BLE001
            _log.warning("The lease of %s could not be released; it ends by itself.", self._lease.group, exc_info=True)

    def _build(self, epoch: int, phase: str = OPERATING) -> HostReport:
        return HostReport(Heartbeat(self._operation, time.time(), self._me, phase, epoch))

    def _replaced(self) -> GroupOwnedError:
        return GroupOwnedError(
            f"Another host has taken over the stream group {self._lease.group}: nobody had heard of this process for "
            "too long. It changes nothing more; call it again."
        )

    def _unanswered(self, error: Exception) -> InstanceUnavailableError:
        return InstanceUnavailableError(
            f"Dagster's storage does not say who owns the stream group {self._lease.group} ({name_cause(error)}), "
            "and another host may. Nothing more is changed; call this again when the storage is back."
        )
