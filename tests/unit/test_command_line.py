"""The command line: what can be asked for, and how a mistake is answered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.cli.__main__ import headrace, main
from resources.settings import load_settings

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(autouse=True)
def settings_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    load_settings.cache_clear()


def test_each_command_is_described_in_the_readme() -> None:
    shown = re.findall(r"^(?:make (\S+)  |\| (`.*?) \| )", README.read_text(), re.MULTILINE)
    assert not set(headrace.commands) - set(re.findall(r"[a-z-]+", str(shown)))


@pytest.mark.parametrize("name", headrace.commands)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: headrace {name}" in capsys.readouterr().out


def test_the_list_of_commands_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_help_needs_no_valid_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_UI_PORT", "no port")
    assert main(["dev", "--help"]) == 0


def test_a_bad_setting_is_one_line_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_UI_PORT", "no port")
    assert main(["demo"]) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith("headrace: Bad setting. HEADRACE_UI_PORT:") and said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nonsense"], "nonsense"),
        (["explain"], "--event-id"),
        (["explain", "--event-id", "e", "--user", "u"], "--event-id"),
        (["forget-user", "u"], "--reason"),
        (["forget-user", "u", "--reason", "r", "--wait-seconds", "soon"], "--wait-seconds"),
        (["replay", "sessions", "--swap", "--undo"], "--undo"),
        (["dev", "--rate", "-1"], "--rate"),
        (["simulate", "--rate", "fast"], "--rate"),
        (["simulate", "--time", "soon"], "--time"),
        (["backup"], "PLACE"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["replay", "nothing"], "nothing"),
        (["replay", "sessions", "--since", "soon"], "--since"),
        (["pause", "--stream", "nothing"], "There is no stream nothing"),
        (["pause", "nothing"], "There is no stream group nothing"),
        (["requeue", "--offset", "here"], "here"),
        (["simulate", "--map", "a=b"], "--map is for a recorded clickstream"),
        (["simulate", "--replay", "clicks.csv", "--rate", "3"], "--rate is for the simulated shop"),
        (["simulate", "--habit", "purchase_rate"], "NAME=NUMBER"),
        (["simulate", "--hours", "-1"], "hours is -1"),
    ],
)
def test_values_that_cannot_be_used_are_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody listens there: a command that goes on although its arguments are wrong fails in another way.
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("headrace: ") and named in said and said.count("\n") == 1


def test_options_of_simulate_stand_in_sections(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--help"]) == 0
    shown = capsys.readouterr().out
    shop, recording = shown.index("Simulated shop:"), shown.index("Recorded clickstream:")
    assert shop < shown.index("--hours") < recording < shown.index("--replay FILE")
