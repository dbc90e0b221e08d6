"""Process identities and file locks between processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources import file_lock
from resources.processes import ProcessIdentity, identify, is_alive, kill


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def test_identity_is_stable_and_ends_with_the_process(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify(sleeper.pid)
    assert identity is not None
    assert identify(sleeper.pid) == identity
    assert is_alive(identity)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet reaped: a zombie
    assert not is_alive(identity)
    assert identify(sleeper.pid) is None


def test_later_process_with_the_same_pid_is_never_hit(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify(sleeper.pid)
    assert identity is not None
    earlier = ProcessIdentity(identity.pid, identity.start_tick - 1)
    assert not is_alive(earlier)
    assert kill(earlier, signal.SIGKILL) is False
    assert sleeper.poll() is None
    assert kill(identity, signal.SIGKILL) is True
    assert sleeper.wait() == -signal.SIGKILL


def test_exclusive_lock_excludes_and_shared_ones_agree(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    first = file_lock.acquire(path, shared=True, timeout_seconds=1)
    second = file_lock.acquire(path, shared=True, timeout_seconds=1)
    with pytest.raises(TimeoutError, match="stayed locked"), file_lock.exclusive(path, timeout_seconds=0):
        pass
    os.close(first)
    os.close(second)
    with file_lock.exclusive(path, timeout_seconds=0):
        pass


def test_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import signal, sys; from pathlib import Path; from resources import file_lock\n"
        "file_lock.acquire(Path(sys.argv[1]), timeout_seconds=1); print('held', flush=True); signal.pause()"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(TimeoutError), file_lock.exclusive(path, timeout_seconds=0):
            pass
        holder.kill()
        with file_lock.exclusive(path, timeout_seconds=10):
            pass
