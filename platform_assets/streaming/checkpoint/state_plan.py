"""What a query's state was built by, kept next to its checkpoint, so that changed code does not go on with it unseen.

Spark refuses a checkpoint whose state has other columns. It does not see that a window has become longer, a filter
another one or a watermark shorter: it would mix rows counted the old way with rows counted the new way. So the part of
the query's plan that feeds and holds state is written down at the first start, and compared at each later one. What
lies above it (a final projection, a threshold) changes what is written from now on, and needs no new state.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec

from platform_assets.errors import PlanChangedError
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.stream_spec import TableStream

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Spark's names of the operators that keep state in a streaming query.
_STATEFUL = ("Aggregate", "Join", "Deduplicate", "FlatMapGroups", "TransformWithState", "GlobalLimit")
# Numbers that Spark gives to columns and nodes, others in each session, and the watermark's delay at each column.
_IDENTITIES = re.compile(r"#\d+L?(?:-T\d+ms)?|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
# The tree's branches, and Spark's mark of a streaming operator.
_TREE = re.compile(r"^[\s:+|~-]*")
# Ours, and of no account: the source has its place in them, the metrics a number of this session.
_SOURCE = ("StreamingRelation", "CollectMetrics")
_FILE = "headrace_plan.json"
# A run's tag holds 400 characters of an error.
_MAX_SHOWN_LINES = 3
_SHOWN_CHARS = 120


@dataclass(frozen=True)
class StatePlan:
    """`lines` are the operators from the first stateful one down to the source; `spark` the version that named them."""

    lines: tuple[str, ...]
    spark: str


def describe(rows: DataFrame, stream: TableStream) -> StatePlan:
    """The plan of a stream's query, without what differs between two sessions and without the source's place."""
    tree: list[str] = rows._jdf.queryExecution().analyzed().treeString().splitlines()
    operators = [_IDENTITIES.sub("", _TREE.sub("", line)).strip() for line in tree]
    first = next((number for number, line in enumerate(operators) if line.startswith(_STATEFUL)), len(operators))
    lines = [line for line in operators[first:] if line and not line.startswith(_SOURCE)]
    source = stream.source
    types = ", ".join(source.event_types) or "all"
    columns = ", ".join(source.columns)
    lines.append(f"Source {source.table.name} [{columns}], types {types}, watermark {source.watermark_delay}")
    return StatePlan(tuple(lines), rows.sparkSession.version)


def check(checkpoint: Checkpoint, query: str, plan: StatePlan) -> None:
    """Compares with what the checkpoint was built by; writes it down where nothing is, or nothing that can be compared.

    Called before each start of a query. Raises `PlanChangedError` with the lines that differ; nothing is changed then.
    Plans of two versions of Spark are not compared: they word the same plan in different ways.
    """
    text = checkpoint.read_text(_FILE)
    before = None if text is None else msgspec.convert(json.loads(text), StatePlan)
    if before is not None and before.spark == plan.spark:
        if before.lines != plan.lines:
            raise PlanChangedError(
                # What to do comes first: a tick shows the beginning of a reason.
                f"The code of query {query} has changed in what its state is made of, and rows counted both ways would "
                f"be mixed. Begin anew: headrace recompute {query} (or run the code that made the state). What has "
                f"changed: {_show_difference(before.lines, plan.lines)}."
            )
        return
    checkpoint.write_text(_FILE, json.dumps(asdict(plan), indent=1))


def _show_difference(before: Sequence[str], after: Sequence[str]) -> str:
    pairs = [
        pair
        for kind, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if kind != "equal"
        for pair in zip_longest(before[i:j], after[k:m], fillvalue="")
    ]
    return "; ".join(_show_pair(old, new) for old, new in pairs[:_MAX_SHOWN_LINES])


def _show_pair(old: str, new: str) -> str:
    """One operator's line before and after, each from shortly before the first letter that differs."""
    if not old or not new:
        return f"added {new[:_SHOWN_CHARS]}" if new else f"removed {old[:_SHOWN_CHARS]}"
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - _SHOWN_CHARS // 4)
    name = "" if start == 0 else f"{old.split(maxsplit=1)[0]} …"
    return f"{name}{old[start : start + _SHOWN_CHARS]} became {name}{new[start : start + _SHOWN_CHARS]}"
