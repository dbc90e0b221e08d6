"""What a query's state was built by, kept beside its checkpoint, so that changed code does not go on with it unseen.

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
from typing import TYPE_CHECKING

from platform_assets.errors import PlanChangedError
from platform_assets.streaming.hadoop_files import read_text, write_text
from platform_assets.streaming.specs import StreamSpec, TableSource, in_words

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Spark's names of the operators that keep state in a streaming query.
_STATEFUL = ("Aggregate", "Join", "Deduplicate", "FlatMapGroups", "TransformWithState", "GlobalLimit")
# Numbers that Spark gives to columns and nodes, others in each session.
_IDENTITIES = re.compile(r"#\d+L?|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_TREE = re.compile(r"^[\s:+|-]*")
_MAX_SHOWN_LINES = 6


@dataclass(frozen=True)
class StatePlan:
    """`lines` are the operators from the first stateful one down to the source; `spark` the version that named them."""

    lines: tuple[str, ...]
    spark: str


def describe(rows: DataFrame, stream: StreamSpec) -> StatePlan:
    """The plan of a stream's query, without what differs between two sessions and without the source's place."""
    assert isinstance(stream.source, TableSource)
    tree: list[str] = rows._jdf.queryExecution().analyzed().treeString().splitlines()
    operators = [_IDENTITIES.sub("", _TREE.sub("", line)).strip() for line in tree]
    first = next((number for number, line in enumerate(operators) if line.startswith(_STATEFUL)), len(operators))
    lines = [line for line in operators[first:] if line and "StreamingRelation" not in line]
    source = stream.source
    types = ", ".join(source.event_types) or "all"
    delay = in_words(source.watermark_delay)
    lines.append(f"Source {source.table.name} [{', '.join(source.columns)}], types {types}, watermark {delay}")
    return StatePlan(tuple(lines), rows.sparkSession.version)


def check(session: SparkSession, checkpoint: str, query: str, plan: StatePlan) -> None:
    """Compares with what the checkpoint was built by; writes it down where nothing is, or nothing that can be compared.

    Called before each start of a query. Raises `PlanChangedError` with the lines that differ; nothing is changed then.
    Plans of two versions of Spark are not compared: they word the same plan in different ways.
    """
    uri = f"{checkpoint}/headrace_plan.json"
    text = read_text(session, uri)
    before = None if text is None else json.loads(text)
    if before is not None and before["spark"] == plan.spark:
        if before["lines"] != list(plan.lines):
            raise PlanChangedError(
                f"The code of query {query} has changed in what its state is made of: "
                f"{_show_difference(before['lines'], plan.lines)}. Rows counted both ways would be mixed. Run the code "
                f"that made the state, or begin anew: headrace recompute {query}"
            )
        return
    write_text(session, uri, json.dumps(asdict(plan), indent=1))


def _show_difference(before: Sequence[str], after: Sequence[str]) -> str:
    changed = [line for line in difflib.ndiff(before, after) if line.startswith(("- ", "+ "))]
    shown = " | ".join(changed[:_MAX_SHOWN_LINES])
    left = len(changed) - _MAX_SHOWN_LINES
    return f"{shown} | and {left} lines more" if left > 0 else shown
