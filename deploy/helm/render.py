"""Renders the Helm chart with each value set of `headrace/ci` into `rendered`: `make chart`, with `helm` on the path.

What is rendered is committed, so that a review sees what a change of a template does, and a test without helm can look
at it. Its first line has a hash of the chart and the value set, by which the test finds one that is out of date.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HELM = Path(__file__).parent
CHART = HELM / "headrace"
RENDERED = HELM / "rendered"
_FIRST_LINE = "# Rendered by `make chart` from "


def list_value_sets() -> list[Path]:
    """The files of values for which the chart is rendered."""
    return sorted((CHART / "ci").glob("*.yaml"))


def hash_sources(value_set: Path) -> str:
    """A hash of all that goes into what is rendered with a value set."""
    digest = hashlib.sha256()
    sources = (path for path in CHART.rglob("*") if path.is_file() and path.parent.name != "ci")
    for path in sorted([*sources, value_set]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(CHART)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def read_hash(rendered: Path) -> str:
    """The hash of what a committed file was rendered from."""
    return rendered.read_text().partition("\n")[0].removeprefix(_FIRST_LINE)


def render(value_set: Path) -> str:
    """What `helm template` makes of the chart and a value set. Raises `CalledProcessError` with helm's own message."""
    helm = shutil.which("helm")
    if helm is None:
        sys.exit("helm is not on the path: install it (https://helm.sh), then try again.")
    subprocess.run([helm, "lint", "--strict", "--quiet", str(CHART), "--values", str(value_set)], check=True)
    command = [helm, "template", "headrace", str(CHART), "--namespace", "shop", "--values", str(value_set)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return f"{_FIRST_LINE}{hash_sources(value_set)}\n{text}"


def main() -> None:
    """Renders all value sets."""
    for value_set in list_value_sets():
        (RENDERED / value_set.name).write_text(render(value_set))


if __name__ == "__main__":
    main()
