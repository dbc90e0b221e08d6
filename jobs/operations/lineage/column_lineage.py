"""The columns of its source from which each column of a stream's table is made, read from the stream's rule.

The rule is the table's rows once more, in SQL, and the check `parity` holds the table against it. A stream without a
rule, and a column of which the rule does not say it, has no lineage: none is guessed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from platform_assets.streaming.stream_spec import TableStream


@functools.cache
def find_sources(stream: TableStream) -> Mapping[str, tuple[str, ...]]:
    """The source's columns that each column is computed of, by its name; columns that are not known are left out.

    A column that comes out of a structure of several is not known: which part of it becomes which column is lost.
    """
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import Node, lineage

    if stream.rule is None:
        return {}
    known = {column.name: column.type for column in stream.source.table.columns}
    try:
        nodes = lineage(None, stream.rule, {"events": known}, dialect="duckdb")
    except SqlglotError:
        return {}
    assert isinstance(nodes, dict)

    def is_clear(node: Node) -> bool:
        return node.expression.find(exp.Struct, exp.Dot) is None

    found = {}
    for column in stream.main_table.columns:
        path = list(nodes[column.name].walk()) if column.name in nodes else []
        sources = {node.name.rpartition(".")[2].strip('"') for node in path if isinstance(node.expression, exp.Table)}
        if sources and sources <= known.keys() and all(map(is_clear, path)):
            found[column.name] = tuple(sorted(sources))
    return found
