"""Process identities and file locks between processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from resources import file_lock
from resources.processes import ProcessIdentity, identify, is_alive, kill
from resources.scratch import make_scratch_folder


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
    boot = identity.start.partition(":")[0]
    earlier = replace(identity, start=f"{boot}:{identity.start_tick - 1}")
    assert is_alive(earlier) is False
    assert kill(earlier, signal.SIGKILL) is False
    assert sleeper.poll() is None
    assert kill(identity, signal.SIGTERM) is True
    assert sleeper.wait() == -signal.SIGTERM


def test_process_of_another_boot_is_dead_and_one_of_another_host_unknown_and_neither_is_hit(
    sleeper: subprocess.Popen[bytes],
) -> None:
    identity = identify(sleeper.pid)
    assert identity is not None
    before_the_boot = replace(identity, start=f"another:{identity.start_tick}")
    assert is_alive(before_the_boot) is False and kill(before_the_boot) is False
    elsewhere = replace(identity, host="elsewhere")
    assert is_alive(elsewhere) is None and kill(elsewhere) is False
    assert sleeper.poll() is None
    assert kill(identity) is True
    assert sleeper.wait() == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="the boot and the ticks are those of /proc")
def test_identity_has_the_form_that_running_hosts_have_on_record(sleeper: subprocess.Popen[bytes]) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    tick = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[19]
    assert identify(sleeper.pid) == ProcessIdentity(socket.gethostname(), sleeper.pid, f"{boot}:{tick}")


def test_scratch_of_a_dead_process_is_removed_and_that_of_a_live_one_kept(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    identity = identify(sleeper.pid)
    assert identity is not None
    # Names as they have been since the first version: pid, start tick, and letters of `mkdtemp`.
    live = tmp_path / f"{sleeper.pid}-{identity.start_tick}-xclgr11e"
    dead = tmp_path / f"{sleeper.pid}-{identity.start_tick - 1}-b2_-x9w0"
    foreign = tmp_path / "spark-warehouse"
    for folder in (live, dead, foreign):
        folder.mkdir()
    own, this = make_scratch_folder(tmp_path), identify(os.getpid())
    assert this is not None and own.name.startswith(f"{this.pid}-{this.start_tick}-")
    assert {folder.name for folder in tmp_path.iterdir()} == {live.name, foreign.name, own.name}


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
