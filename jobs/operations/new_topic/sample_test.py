"""Writes a topic's test: some of its samples are accepted, and broken ones are quarantined with their reasons."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jobs.operations.new_topic.draft import Draft
from jobs.operations.new_topic.literals import quote, quote_bytes

# Enough to see what a record is; each stands in a file that is kept with the code.
_KEPT = 3
_LONGEST = 2000


def choose_samples(raw: Sequence[bytes]) -> list[bytes]:
    """Some different records, short ones first."""
    return sorted(set(raw), key=lambda value: (len(value), value))[:_KEPT]


def write_test(draft: Draft, samples: Sequence[bytes], judge: Callable[[bytes], str]) -> str:
    """The text of `tests/unit/test_topic_<name>.py`. `judge` gives the reason for which a value is quarantined."""
    broken = {reason: code for value, code in _break(draft, samples[0]) if (reason := judge(value))}
    is_json = draft.pattern is None
    return _TEST.format(
        name=draft.name,
        samples="".join(f"    {quote_bytes(value, 4)},\n" for value in samples),
        broken="".join(f"    ({code}, {quote(reason)}),\n" for reason, code in broken.items()),
        json="import json\n" if is_json else "",
        change=_CHANGE if is_json else "",
    )


def _break(draft: Draft, sample: bytes) -> Iterator[tuple[bytes, str]]:
    """Values that a topic refuses, made of a good one, and the code that makes them."""
    if draft.pattern is not None:
        yield b"\xff" + sample, 'b"\\xff" + SAMPLES[0]'
        return
    yield sample[:-1], "SAMPLES[0][:-1]"
    changes: tuple[tuple[Any, str], ...] = ((None, "None"), ([], "[]"), ("yesterday", '"yesterday"'))
    for field in (draft.fields[0], next(each for each in draft.fields if each.name == draft.time_field)):
        for value, code in changes:
            yield _change(sample, field.key, value), f"change({quote(field.key)}, {code})"


def _change(sample: bytes, path: str, value: Any) -> bytes:
    document = json.loads(sample)
    *above, last = path.split(".")
    holder = document
    for key in above:
        holder = holder[key]
    holder[last] = value
    return json.dumps(document).encode()


_CHANGE = '''

def change(path: str, value: object) -> bytes:
    """The first sample with another value at this place."""
    document = json.loads(SAMPLES[0])
    *above, last = path.split(".")
    holder = document
    for key in above:
        holder = holder[key]
    holder[last] = value
    return json.dumps(document).encode()


'''
_TEST = '''"""Samples of `{name}` are accepted, broken ones quarantined with their reasons."""

from __future__ import annotations

{json}import time

import pytest

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.reasons import RejectedRecordError
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.topics.{name} import TOPIC

pytestmark = pytest.mark.unit

SAMPLES = (
{samples})
{change}BROKEN = (
{broken})


def judge(value: bytes) -> str:
    """The reason for which a value is quarantined, empty for one that is accepted."""
    try:
        compile_contract(TOPIC).parse(value, 1_048_576, time.time_ns() // 1000, EventRules())
    except RejectedRecordError as error:
        return error.reason
    return ""


@pytest.mark.parametrize("value", SAMPLES)
def test_a_sample_is_accepted(value: bytes) -> None:
    assert judge(value) == ""


@pytest.mark.parametrize(("value", "reason"), BROKEN)
def test_a_broken_record_is_quarantined_with_its_reason(value: bytes, reason: str) -> None:
    assert judge(value) == reason
'''
