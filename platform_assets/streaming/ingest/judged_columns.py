"""Judges the columns of many values by a topic's contract: which of them are its records as they are.

All others, whatever is wrong or only unusual with them, are judged one by one, and only there the reason is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import msgspec
import msgspec.inspect as inspection
import numpy as np
import pyarrow as pa

from platform_assets.streaming.arrays import Int64s
from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.streaming.formats.byte_columns import Bools, Column, Cursor, build_texts, build_validity
from platform_assets.streaming.formats.shapes import Shape
from platform_assets.streaming.ingest.record_contract import RecordContract
from platform_assets.streaming.record_types import INT32_MAX, RecordField

JudgeNumbers: TypeAlias = Callable[[Any], Bools]
# The kinds of a schema whose values a field takes as they are, by its own kind.
_TAKEN = {"text": ("text", "enum"), "enum": ("text", "enum"), "int": ("int",), "float": ("float",), "bool": ("bool",),
          "datetime": ("timestamp",)}  # fmt: skip


@dataclass(frozen=True)
class FieldPlan:
    """How a field of the contract takes a member's column. `member`: None where the schema does not have it.

    `may_lack`: the field may be null. `hint`: the type of its texts, where not every text is one. `bounds`: which
    numbers are in its limits. `is_spelled`: whether a text has the topic's spelling, where there is one.
    """

    field: RecordField
    member: str | None
    may_lack: bool
    hint: Any = None
    bounds: JudgeNumbers | None = None
    is_spelled: Callable[[str | None], bool] | None = None


def plan_columns(shape: Shape, contract: RecordContract) -> tuple[FieldPlan, ...] | None:
    """How a contract takes records of a shape as columns; None where it has a field or a rule that needs records."""
    topic = contract.topic
    needs_records = topic.rules or topic.complete is not None or len(topic.event_id) > 1
    if needs_records or shape.kind != "record" or hasattr(topic.record, "__post_init__"):
        return None
    known = {each.path[0] for each in contract.fields}
    if any(member.name not in known for member in shape.members):
        return None
    defaults = {each.name: each.default for each in msgspec.structs.fields(topic.record)}
    plans = [_plan_field(each, shape, contract, defaults[each.name]) for each in contract.fields]
    found = tuple(plan for plan in plans if plan is not None)
    return found if len(found) == len(plans) else None


def _plan_field(each: RecordField, shape: Shape, contract: RecordContract, default: Any) -> FieldPlan | None:
    member, time = shape.find(each.path[0]), contract.topic.event_time
    is_time = each.name == time.field
    may_lack = not each.is_required and each.is_nullable and default is None and not is_time
    if len(each.path) > 1 or each.as_text or each.marks.keys() & {"epoch", "time_format"}:
        return None
    if each.kind not in _TAKEN or (each is contract.id_field and each.kind != "text"):
        return None
    if member is None:
        return FieldPlan(each, None, may_lack) if may_lack else None
    kinds = {of.kind for of in member.shape.choices}
    if len(kinds) != 1:
        return None
    [kind] = kinds
    is_plain_time = is_time and kind == "timestamp" and time.unit is None and time.format is None
    if kind not in _TAKEN[each.kind] and not (is_plain_time and each.kind == "text"):
        return None
    if (limits := _find_limits(each, contract.hints[each.name])) is None or (
        kind == "timestamp" and limits[0] is not None
    ):
        return None
    is_spelled = partial(contract.is_spelled, each) if each in contract.spelled_texts else None
    return FieldPlan(each, member.name, may_lack, *limits, is_spelled)


def _find_limits(each: RecordField, hint: Any) -> tuple[Any, JudgeNumbers | None] | None:
    """What a field's texts and numbers are judged by: a type, and bounds; None where it is another rule."""
    match each.inspected:
        case inspection.StrType() as text:
            is_any = text.pattern is None and text.min_length is None and text.max_length is None
            return None if is_any else hint, None
        case inspection.IntType() | inspection.FloatType() as number:
            return None if number.multiple_of is not None else (None, _find_bounds(number))
        case inspection.DateTimeType() as moment:
            return None if moment.tz is False else (None, None)
        case inspection.EnumType() | inspection.LiteralType():
            return (hint, None) if isinstance(each.choices[0], str) else None
    return None, None


def _find_bounds(inspected: inspection.IntType | inspection.FloatType) -> JudgeNumbers | None:
    is_short = isinstance(inspected, inspection.IntType) and inspected.le is not None and inspected.le <= INT32_MAX
    compared = [(np.greater, inspected.gt), (np.greater_equal, inspected.ge), (np.less, inspected.lt),
                (np.less_equal, inspected.le), (np.greater_equal, -INT32_MAX - 1 if is_short else None)]  # fmt: skip
    bounds = [(compare, limit) for compare, limit in compared if limit is not None]
    if not bounds:
        return None

    def judge(values: Any) -> Bools:
        found: Bools = np.logical_and.reduce([compare(values, limit) for compare, limit in bounds])
        return found

    return judge


def judge_numbers(plans: tuple[FieldPlan, ...], columns: Mapping[str, Column], cursor: Cursor) -> None:
    """Marks as odd the values that lack a field, or have a number out of its limits."""
    for plan in plans:
        if plan.member is None:
            continue
        column = columns[plan.member]
        if column.is_there is not None and not plan.may_lack:
            cursor.mark_odd(~column.is_there)
        if plan.bounds is not None:
            cursor.mark_odd(~plan.bounds(column.values), column.is_there)


def build_array(plan: FieldPlan, columns: Mapping[str, Column], cursor: Cursor, rows: Int64s | None) -> pa.Array:
    """The field's array for these rows (None: all); times as counts where the field has them as texts.

    Raises `ArrowInvalid` for a text that is not UTF-8.
    """
    of_type = as_arrow(plan.field.column_type)
    if plan.member is None:
        return pa.nulls(len(cursor.at) if rows is None else len(rows), of_type)
    column = columns[plan.member]
    if column.lengths is not None:
        return build_texts(cursor, column, rows)
    taken = column if rows is None else column.take(rows)
    is_absent = None if taken.is_there is None else ~taken.is_there
    if column.symbols:
        # What stands where there is none is no number of a symbol.
        return pa.array(column.symbols, pa.string()).take(pa.array(taken.values, mask=is_absent))
    if taken.values.dtype == np.bool_:
        return pa.array(taken.values, mask=is_absent)
    values = taken.values.astype(np.int32) if plan.field.column_type == "int" else taken.values
    array_type = of_type if plan.field.kind in ("int", "float", "datetime") else pa.int64()
    buffers = [build_validity(taken.is_there), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(array_type, len(values), buffers)


def find_unfit(plan: FieldPlan, texts: pa.Array) -> Bools | None:
    """Which texts are none of the field's type; None where all are. Each different text is judged once."""
    hint, is_spelled = plan.hint, plan.is_spelled
    if hint is None and is_spelled is None:
        return None
    different = texts.dictionary_encode()
    is_unfit = [
        (hint is not None and not _is_of(hint, text)) or (is_spelled is not None and not is_spelled(text))
        for text in different.dictionary.to_pylist()
    ]
    if not any(is_unfit):
        return None
    found: Bools = pa.array(is_unfit).take(different.indices).fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _is_of(hint: Any, text: str) -> bool:
    """Whether a text is of the type, and stands for itself: an enum may give one member's value for another text."""
    try:
        return bool(msgspec.to_builtins(msgspec.convert(text, hint)) == text)
    except msgspec.ValidationError:
        return False
