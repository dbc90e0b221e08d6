"""The audit log: who changed data, when and why is on record before anything is changed, and with what came of it."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.__main__ import headrace, main
from jobs.operations.audit import (
    audited,
    describe_act,
    find_user_hash,
    identify_launcher,
    leave_out_secrets,
    note_act,
    shorten_card,
)
from jobs.operations.backup import back_up, restore
from jobs.operations.forgetting.audit import describe_erasure
from jobs.operations.forgetting.proof import search_files
from platform_assets.definitions import defs
from platform_assets.errors import HeadraceError, StorageError, UsageError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.ledgers.platform_tables import HistoryWriter
from platform_assets.streaming.register.forgotten_users import Register, new_row
from platform_assets.streaming.register.found_traces import NOTHING_ELSE
from platform_assets.tables.platform import AUDIT_LOG
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.generated_cases import examples

ROOT = str(Path(__file__).parents[2])
# Half a surrogate pair is what Python makes of a command line's bytes that are no UTF-8.
TEXTS = st.text(st.characters(exclude_categories=()), min_size=1, max_size=20)

# Each command with arguments that need no broker, or that end without one; and how its attempt ends then.
AUDITED = {
    "pause": ([], "finished"),
    "resume": ([], "finished"),
    "restart": ([], "finished"),
    "recompute": (["sessions"], "finished"),
    "reset-time": ([], "failed"),
    "replay": (["sessions", "--swap"], "failed"),
    "acknowledge-loss": ([], "failed"),
    "requeue": (["--accept"], "failed"),
    "backup": (["PLACE"], "finished"),
    "restore": (["PLACE"], "failed"),
    "forget-user": (["somebody-12"], "failed"),
    "model promote": (["3"], "failed"),
    "model roll-back": ([], "failed"),
    "card release": (["card-0007243"], "failed"),
    "remove-absent": (["customers", "--send"], "failed"),
    "sink resync": (["gold.sessions"], "failed"),
    "alerts acknowledge": (["0123456789abcdef"], "failed"),
}
# These look for the broker until they give up, or do the same as `pause`.
WAITS = {"replay", "acknowledge-loss", "forget-user", "resume", "restart"}
NEEDS_NO_REASON = {"pause", "resume", "restart", "backup", "model roll-back", "acknowledge-loss"}
# Each with the reason why no person is asked for one.
NOT_AUDITED = {
    "demo": "runs the platform: what streams and reports write is in their ledgers",
    "dev": "runs the platform",
    "up": "runs the platform",
    "drain": "runs the streams",
    "topics": "makes topics that are missing, and leaves those that exist as they are",
    "check": "reads",
    "explain": "reads",
    "sql": "reads",
    "views": "reads",
    "recommend": "reads",
    "metrics": "reads",
    "page": "reads",
    "card list": "reads",
    "model list": "reads",
    "sink list": "reads",
    "alerts list": "reads",
    "check-contract": "reads",
    "pack": "writes an archive of code",
    "new-topic": "writes files of code, which are reviewed",
    "simulate": "sends records, as any producer does",
    "model train": "computes, as its schedule does: platform.fraud_models has who, and fraud_champions what came of it",
}
AUDITED_JOBS = {
    "back_up_lakehouse", "control_streams", "replay_stream", "requeue_records", "release_card", "promote_fraud_model",
    "roll_back_fraud_model",
}  # fmt: skip

# They run streams, compute, check or send, as schedules and sensors have them do.
NOT_AUDITED_JOBS = {
    "__ASSET_JOB", "asset_checks", "drain_streams", "fraud_alerts_page", "reports", "simulate_shop", "streaming_job",
    "train_fraud_model",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of this test, with a broker that refuses every connection at once."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    load_settings.cache_clear()
    yield tmp_path / "home"
    load_settings.cache_clear()


def read_rows(lakehouse: LakehouseResource) -> list[dict[str, Any]]:
    table = lakehouse.find_table(AUDIT_LOG.name)
    return [] if table is None else sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row["at"])


def read_own() -> list[dict[str, Any]]:
    return read_rows(LakehouseResource.from_settings(load_settings()))


def list_commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from list_commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_each_command_asks_why_or_is_known_to_change_nothing() -> None:
    """A new command has to be put into one of the two lists."""
    commands = dict(list_commands(headrace))
    assert set(commands) == AUDITED.keys() | NOT_AUDITED.keys() and not AUDITED.keys() & NOT_AUDITED.keys()
    asks = {name for name, each in commands.items() if any("--because" in option.opts for option in each.params)}
    assert asks == AUDITED.keys()


def test_each_job_that_a_person_launches_asks_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_GROUPS", "all")
    load_settings.cache_clear()
    asks = {}
    for job in defs().get_repository_def().get_all_jobs():
        ops = [node.definition for node in job.nodes if isinstance(node.definition, dg.OpDefinition)]
        fields = {name for op in ops for name in getattr(op.config_schema.config_type, "fields", {})}
        asks[job.name] = "reason" in fields
    load_settings.cache_clear()
    assert asks == dict.fromkeys(AUDITED_JOBS, True) | dict.fromkeys(NOT_AUDITED_JOBS, False)


@pytest.mark.parametrize(
    "command", [pytest.param(each, marks=pytest.mark.long if each in WAITS else ()) for each in AUDITED]
)
def test_each_attempt_is_on_record_with_its_outcome(
    command: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, outcome = AUDITED[command]
    given_arguments = [str(tmp_path / "place") if each == "PLACE" else each for each in arguments]
    code = main([*command.split(), *given_arguments, "--because", "ticket 4711"])
    rows = read_own()
    assert code == (0 if outcome == "finished" else 1), capsys.readouterr()
    expected = ["finished"] if command in ("pause", "resume", "restart") else ["begun", outcome]
    assert [row["outcome"] for row in rows] == expected
    assert {row["command"].split(" --")[0] for row in rows} == {command}
    assert {row["reason"] for row in rows} == {"ticket 4711"}
    assert len({row["attempt_id"] for row in rows}) == 1
    assert all(row["who"] and row["host"] and row["run_id"] is None for row in rows)
    assert "somebody-12" not in str(rows) and "card-0007243" not in str(rows)


@pytest.mark.parametrize("command", sorted(AUDITED.keys() - NEEDS_NO_REASON))
def test_a_command_that_changes_data_is_refused_without_a_reason(
    command: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), *AUDITED[command][0]]) in (1, 2)
    assert "--because" in capsys.readouterr().err
    assert not (home / "lakehouse").exists()


def test_an_attempt_that_was_killed_is_on_record(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command waits for a broker that takes its connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{silent.getsockname()[1]}")
        command = [sys.executable, "-m", "jobs.cli", "requeue", "--accept", "--because", "ticket 4711"]
        process = subprocess.Popen(command, env=dict(os.environ), cwd=ROOT, stderr=subprocess.PIPE)
        silent.settimeout(120)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
    assert [(row["outcome"], row["command"]) for row in read_own()] == [("begun", "requeue")]


def test_the_row_is_there_before_the_block_and_the_error_is_kept_as_far_as_it_is_ours(
    lakehouse: LakehouseResource,
) -> None:
    errors = {
        "UsageError: There is no stream x.": UsageError("There is no stream x."),
        "ValueError": ValueError("password=hunter2"),
        "KeyboardInterrupt": KeyboardInterrupt(),
    }
    for detail, error in errors.items():
        before = len(read_rows(lakehouse))
        with pytest.raises(type(error)), audited(lakehouse, describe_act("replay", "why", {"stream": "x"})):
            assert read_rows(lakehouse)[before]["outcome"] == "begun"
            raise error
        last = read_rows(lakehouse)[-1]
        assert (last["outcome"], last["detail"], json.loads(last["arguments"])) == ("failed", detail, {"stream": "x"})
    private = describe_act("forget-user", "why", {}, has_private_errors=True)
    with pytest.raises(UsageError), audited(lakehouse, private):
        raise UsageError("ann-7 is not there.")
    assert read_rows(lakehouse)[-1]["detail"] == "UsageError"


def test_nothing_is_changed_where_the_row_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lakehouse, changed = LakehouseResource(root=str(tmp_path / "lake")), []
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "platform").write_text("a file where a folder has to be")
    with pytest.raises(StorageError, match=r"^Nothing was changed, because no row .*platform.audit_log"):  # noqa: SIM117
        with audited(lakehouse, describe_act("replay", "why", {})):
            changed.append("a table")
    assert not changed
    note_act(lakehouse, describe_act("pause", "", {}, needs_reason=False))
    assert "pause is recorded, but no row can be written" in caplog.text


def test_what_is_done_and_has_no_last_row_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lakehouse, folder = LakehouseResource(root=str(tmp_path)), tmp_path / "platform"

    def break_log() -> None:
        folder.rename(tmp_path / f"was-{time.monotonic_ns()}")
        folder.write_text("a file where a folder has to be")

    with (
        pytest.raises(StorageError, match="replay is done, but no row"),
        audited(lakehouse, describe_act("replay", "why", {})),
    ):
        break_log()
    folder.unlink()
    with pytest.raises(UsageError, match="its own"), audited(lakehouse, describe_act("replay", "why", {})):
        break_log()
        raise UsageError("An error of its own.")
    assert "replay has failed, and no row can be written" in caplog.text


@examples(40, quick=10)
@given(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3), TEXTS)
def test_whatever_is_typed_is_in_the_row(reason: str, arguments: dict[str, str], detail: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lakehouse = LakehouseResource(root=folder)
        with audited(lakehouse, describe_act("requeue", reason, arguments, needs_reason=False)) as outcome:
            outcome.detail = detail
        begun, finished = read_rows(lakehouse)

    def as_kept(text: str) -> str:
        return "".join(f"\\u{ord(each):x}" if 0xD800 <= ord(each) < 0xE000 else each for each in text)

    def as_pairs(text: str) -> str:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

    assert begun["reason"] == finished["reason"] == as_kept(reason.strip())
    expected = {as_pairs(name): as_pairs(value) for name, value in arguments.items()}
    assert json.loads(finished["arguments"]) == expected
    assert (begun["detail"], finished["detail"]) == (None, as_kept(detail))


def test_attempts_at_the_same_moment_do_not_lose_a_row(tmp_path: Path) -> None:
    def attempt(number: int) -> None:
        with audited(LakehouseResource(root=str(tmp_path)), describe_act("requeue", f"{number}", {})):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(24)))
    rows = read_rows(LakehouseResource(root=str(tmp_path)))
    assert sorted((row["reason"], row["outcome"]) for row in rows) == sorted(
        (f"{number}", outcome) for number in range(24) for outcome in ("begun", "finished")
    )
    assert len({(row["attempt_id"], row["outcome"]) for row in rows}) == 48


def test_a_forgotten_user_is_in_no_row_but_as_the_register_has_it(lakehouse: LakehouseResource) -> None:
    context = StreamContext(lakehouse.root_uri, {}, "earliest", 1, 1.0, 1, None)
    assert find_user_hash(lakehouse, "ann-77") is None
    with audited(lakehouse, describe_erasure(lakehouse, "ann-77", NOTHING_ELSE, "request 4711")):
        register = Register(context)
        register.write("ann-77", new_row("me", "request 4711", read_rows(lakehouse)[0]["at"]))
    assert [row["user_hash"] for row in read_rows(lakehouse)] == [None, register.hash("ann-77")]
    assert search_files(lakehouse, "ann-77").found == ()
    for reason in ("for ann-77", "ann-77", "mail of ann-77, of May"):
        with pytest.raises(UsageError, match="names the user"):
            describe_erasure(lakehouse, "ann-77", NOTHING_ELSE, reason)


def test_who_is_the_account_of_the_machine_and_no_variable_says_otherwise() -> None:
    said = "import os; from resources.account import name_account; {} print(name_account())"
    environment = {**os.environ, "LOGNAME": "planted", "USER": "planted", "LNAME": "planted", "USERNAME": "planted"}

    def ask(first: str) -> str:
        command = [sys.executable, "-c", said.format(first)]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert ask("") == pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:  # a container that was started under a number that has no name there
        assert ask("os.setuid(54321);") == "uid 54321"


@pytest.mark.parametrize(
    ("tags", "who"),
    [
        ({"user": "ann@shop"}, "ann@shop"),
        ({"dagster/user": "bea", "user": "ann"}, "bea"),
        ({"dagster/schedule_name": "nightly"}, "schedule nightly"),
        ({"dagster/sensor_name": "streams"}, "sensor streams"),
        ({"user": "ann", "dagster/schedule_name": "nightly"}, "ann"),
    ],
)
def test_who_launched_a_run_is_read_from_its_tags(tags: dict[str, str], who: str) -> None:
    assert identify_launcher(tags) == who


@examples(50, quick=10)
@given(
    st.from_regex(r"[A-Za-z0-9]{1,12}:[A-Za-z0-9/@]{8,12}@", fullmatch=True) | st.just(""),
    st.from_regex(r"[a-z]{3,8}(/[a-z0-9]{1,5}){0,2}", fullmatch=True),
    st.from_regex(r"\?key=[A-Z0-9]{8}", fullmatch=True) | st.just(""),
)
def test_a_place_is_kept_without_its_log_in(account: str, path: str, query: str) -> None:
    kept = leave_out_secrets(f"s3://{account.replace('/', '%2F')}{path}{query}")
    assert kept == f"s3://{path}"
    assert leave_out_secrets(f"/mnt/{path}") == f"/mnt/{path}"
    assert leave_out_secrets("s3://[secret") == "s3://…"
    assert shorten_card("card-0007243") == "…7243"


def test_a_run_of_the_ui_says_who_and_why(home: Path) -> None:
    job = defs().get_repository_def().get_job("requeue_records")
    with dg.instance_for_test() as instance:

        def run(**config: object) -> dg.ExecuteInProcessResult:
            run_config = {"ops": {"requeue": {"config": config}}}
            return job.execute_in_process(
                run_config=run_config, instance=instance, raise_on_error=False, tags={"user": "ann@shop"}
            )

        refused = run(accept=True)
        assert not refused.success and read_own() == []
        failed = run(accept=True, reason="ticket 4711")
    assert not failed.success
    assert [(row["who"], row["reason"], row["run_id"], row["outcome"]) for row in read_own()] == [
        ("ann@shop", "ticket 4711", failed.run_id, outcome) for outcome in ("begun", "failed")
    ]


def test_a_restore_keeps_the_log_of_the_place_and_adds_the_backups(tmp_path: Path) -> None:
    def on(name: str) -> tuple[Settings, LakehouseResource]:
        settings = Settings(home=tmp_path / "home", lakehouse=str(tmp_path / name))
        return settings, LakehouseResource.from_settings(settings)

    (old_settings, old), (new_settings, new) = on("old"), on("new")
    note_act(old, describe_act("pause", "the move", {}))
    versions = back_up([], old_settings, str(tmp_path / "copy"))
    assert versions == {AUDIT_LOG.name: 1}
    for _ in range(2):
        with audited(new, describe_act("restore", "the move", {})):
            assert restore([], new_settings, str(tmp_path / "copy")) == {}
    assert [(row["command"], row["outcome"]) for row in read_rows(new)] == [
        ("pause", "finished"), ("restore", "begun"), ("restore", "finished"), ("restore", "begun"),
        ("restore", "finished"),
    ]  # fmt: skip
    (tmp_path / "new" / "other").touch()
    with pytest.raises(HeadraceError, match="is not empty"):
        restore([], new_settings, str(tmp_path / "copy"))


def test_a_group_makes_the_table_before_anybody_changes_something(tmp_path: Path) -> None:
    HistoryWriter(StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None), [], "events")
    lakehouse = LakehouseResource(root=str(tmp_path))
    assert lakehouse.delta_table(AUDIT_LOG.name).to_pyarrow_table().num_rows == 0
    with audited(lakehouse, describe_act("recompute", "new code", {})):
        pass
    assert lakehouse.delta_table(AUDIT_LOG.name).to_pyarrow_table().num_rows == 2
