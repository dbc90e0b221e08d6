"""The Markdown pages: each relative link leads to a file, and each anchor to a heading."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "findings").glob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BY_TEXT = re.compile(r"docs/[\w-]+\.md")


def strip_code(text: str) -> str:
    """The page without blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def list_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_dead_links(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    dead = []
    for link in LINK.findall(strip_code(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in list_anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_relative_link_is_dead(page: Path) -> None:
    assert find_dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading\n[a](#a-heading) [b](#none) [c](none.md) `[d](none.md)` [e](https://example.org/none)\n"
    )
    assert find_dead_links(page) == ["#none", "none.md"]


def test_each_page_that_the_code_names_exists() -> None:
    sources = [path for folder in ("platform_assets", "jobs", "resources") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in BY_TEXT.findall(path.read_text())}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
