"""English that a stranger reads once: no private idioms, and docstrings that begin with a subject or a verb."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("platform_assets", "jobs", "resources", "deploy", "benchmarks", "tests", "docs")
PAGES = ("README.md", "CONTRIBUTING.md", "Makefile")
# This file names the idioms.
LEFT_OUT = ("tests/unit/test_wording.py",)

IDIOMS = {
    r"\bof now\b": "current",
    r"\b(code|files|rows|events|handlers) of before\b": "earlier, older, replaced",
    r"\b(code|parser|schema) of (today|yesterday)\b": "the current one, an older one",
    r"\bmade again\b|\bmakes? [^.\n]{0,30}\bagain from\b": "recompute, rebuild",
    r"\bmend(s|ed|ing)?\b": "fix; in a message: what to do",
    r"\bbeside\b(?! the point)": "next to, while ... runs, besides, in addition to",
    r"\b(after|for|with|last|of|at least|at most|are in|about) so many\b": "this many, or the parameter's name",
    r"\bso many (seconds|minutes|days|rows|records|events|losses)\b(?! \w+ that)": "this many, or the parameter's name",
    r"\b(takes?|took|taken|taking) ([a-z]+ ){0,3}in again\b": "re-ingest",
    r"\bput(s|ting)? (\w+ )?down\b": "record, write",
    r"\ba heart\b": "a heartbeat",
    r"\bfor want of\b": "because ... is missing",
    r"\bwhoever\b": "the process, the person, the caller that ...",
    r"\b(is|are) not to wait\b": "must not wait",
}
NAMES = {
    "refuse_second_life": "require_checkpoint",
    "GroupCare": "GroupMaintenance",
    "StreamWishes": "StreamRequests",
    "RunOutside": "RunHostPort",
    "HeldTopic": "TopicSnapshot",
    "mark_idle": "advance_idle_frontier",
    "leave_out_untouched": "keep_touched",
    "leave_out_timely": "keep_late",
}
FRAGMENT = re.compile(
    r"(Of|As|By|Where|Those|Whoever|Who|From|For|Until|With|Without|At|In|On|Once|None|Before|After|So|And|To|That|Also)\b"
)


def read_texts(*suffixes: str) -> Iterator[tuple[str, str]]:
    """Gives the project's files with these suffixes: the path below the root, and the text."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in suffixes]
    for path in [*paths, *(ROOT / page for page in PAGES)]:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(LEFT_OUT) and (path.suffix in suffixes or name == "Makefile"):
            yield name, path.read_text()


def find_words(name: str, text: str, pattern: str, instead: str) -> Iterator[str]:
    """Names each place of the text that has such words, and what to write instead."""
    for found in re.finditer(pattern, text, re.IGNORECASE):
        yield f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found[0]!r}: write {instead!r}"


def find_fragments(name: str, source: str) -> Iterator[str]:
    """Names each docstring whose first line has no subject."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and FRAGMENT.match(text):
                yield f"{name}:{node.body[0].lineno}: {text.splitlines()[0]!r}: begin with a subject or a verb"


def test_no_private_idiom_is_left() -> None:
    words = {**IDIOMS, **{rf"\b{name}\b": instead for name, instead in NAMES.items()}}
    texts = list(read_texts(".py", ".md", ".sh", ".yml", ".yaml", ".toml"))
    assert len(texts) > 300, "the folders are searched"
    found: list[str] = []
    for name, text in texts:
        for pattern, instead in words.items():
            found += find_words(name, text, pattern, instead)
            if pattern in IDIOMS and "_" in text:
                found += find_words(name, text.replace("_", " "), pattern, instead)
    assert not found, "\n".join(found)


def test_docstrings_begin_with_a_subject_or_a_verb() -> None:
    found = [hit for name, text in read_texts(".py") if name.endswith(".py") for hit in find_fragments(name, text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line", ["The code of now.", "Rows of before are old.", "Fix it, or mend it.", "After so many seconds it ends."]
)
def test_an_idiom_is_named_with_what_to_write(line: str) -> None:
    assert any(list(find_words("a.py", line, pattern, say)) for pattern, say in IDIOMS.items())


def test_a_fragment_is_named_and_a_question_is_not() -> None:
    assert list(find_fragments("a.py", 'def f():\n    """Of one user."""\n'))
    assert not list(find_fragments("a.py", 'def f():\n    """Whether it is one user."""\n'))
