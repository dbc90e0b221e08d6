"""The commands that the documentation shows exist, with these options: each is read by its own parser."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from jobs.cli.__main__ import headrace
from resources.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTES = ROOT / "deploy" / "helm" / "headrace" / "templates" / "NOTES.txt"
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# Read by others than the settings: the Makefile, Compose, the image.
OTHER_VARIABLES = {"HEADRACE_MAVEN_REPOSITORY", "HEADRACE_SECRETS", "HEADRACE_VERSION", "HEADRACE_CACHE"}


def list_shown(page: Path) -> list[str]:
    """The lines of blocks, and what stands between backticks."""
    text = page.read_text()
    if page.suffix != ".md":
        return text.splitlines()
    lines = [line for block in BLOCK.findall(text) for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))]


def find_trouble(shown: str) -> str:
    """What the parser of `headrace` says of a line; empty where nothing, or where no such command is in it.

    A line may name a command, or an option, without what belongs to it.
    """
    found = re.search(r"(?:^|\s)headrace ([a-z-]+(?: .*)?)$", shown)
    if found is None:
        return ""
    words = shlex.split(re.split(r"\s[|;&]|\)$", re.sub(r"\s+#.*$", "", found[1]))[0])
    command: click.Command = headrace
    while isinstance(command, click.Group) and words:
        if (name := words.pop(0)).startswith("-"):
            break
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    try:
        command.make_context("headrace", words)
    except (click.exceptions.Exit, click.MissingParameter, click.BadOptionUsage, click.BadParameter):
        return ""
    except click.UsageError as error:
        return error.message
    return ""


@pytest.mark.parametrize("page", [*PAGES, NOTES], ids=lambda page: page.name)
def test_what_a_page_shows_can_be_called(page: Path) -> None:
    shown = list_shown(page)
    troubles = {line: trouble for line in shown if (trouble := find_trouble(line))}
    assert not troubles
    text = "\n".join(shown)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|\s)make ([a-z]+(?:-[a-z]+)*)", text)) <= targets
    assert all(find_spec(module) for module in re.findall(r"python -m ([\w.]+)", text))
    known = {str(of.validation_alias or f"HEADRACE_{name.upper()}") for name, of in Settings.model_fields.items()}
    assert {name for name in re.findall(r"\bHEADRACE_[A-Z0-9_]+\b", text) if name[-1] != "_"} <= known | OTHER_VARIABLES


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("headrace pauze", "no command pauze"),
        ("docker compose exec code headrace pause --becuase x", "No such option"),
        ("headrace sink resynch TABLE", "no command resynch"),
        ("headrace backup A B", "unexpected extra argument"),
        ("headrace pause GROUP --because why   # until tomorrow", ""),
        ("headrace replay STREAM", ""),
    ],
)
def test_what_cannot_be_called_is_found(line: str, said: str) -> None:
    assert said in find_trouble(line) and bool(said) is bool(find_trouble(line))
