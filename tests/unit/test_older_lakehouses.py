"""What lies in a lakehouse, or is said of it, is read as older code wrote it: each literal text is that code's."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.operations.backup import MANIFEST, restore
from jobs.operations.replay.row_replay import ReplayScope
from jobs.operations.replay.shadow import Shadow
from jobs.operations.replay.swap import is_half_done
from jobs.operations.replay.time_range import RangeReplay
from platform_assets.checks.ledger_entries import Entry, entries_of_ledger
from platform_assets.checks.ledger_proof import Proof
from platform_assets.errors import PlanChangedError, StorageError
from platform_assets.folders import Folder
from platform_assets.reports.day_states import DayState
from platform_assets.streaming.checkpoint import state_plan
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.checkpoint.state_plan import StatePlan
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.moments import EPOCH
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.streams import load_streams
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

PROOF = (
    '{"tables": {"accepted": ["5f1c", 12], "rejected": ["77aa", 3]}, "until": [["events", 0, 100], ["events", 1, 90]], '
    '"totals": {"offsets": 190, "accepted": 188, "rejected": 2}, "full_at": "2026-11-28T18:00:00+00:00"}'
)
PLAN = (
    '{\n "lines": [\n  "Aggregate [user_id], [sum(n) AS n]",\n  '
    '"Source silver.events [user_id], types all, watermark 10 minutes"\n ],\n "spark": "4.2.0"\n}'
)
SWAPPING = b'{"state": "swapping", "version": 12, "generation": "6f0f2f0c-3a49-4f0e-9a51-2d0f4dd1a2ab"}'
UNDOING = b'{"state": "undoing", "version": 0, "generation": null}'

BROKEN = ["", "no JSON", "null", "[]", "1", '{"g": 1}', '{"g": {}}']
# Half a surrogate pair is what Python makes of a command line's bytes that are no UTF-8.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)


def test_a_proof_is_read_as_before_and_by_older_code() -> None:
    tables, until = {"accepted": ("5f1c", 12), "rejected": ("77aa", 3)}, (("events", 0, 100), ("events", 1, 90))
    totals = {"offsets": 190, "accepted": 188, "rejected": 2}
    proof = Proof(tables, until, totals, "2026-11-28T18:00:00+00:00")
    assert Proof.load(PROOF) == proof
    assert json.loads(proof.dump()) == json.loads(PROOF)
    assert Proof.load(json.dumps({**json.loads(PROOF), "by": "newer code"})) == proof


@pytest.mark.parametrize("text", [None, *BROKEN, PROOF.replace("+00:00", ""), PROOF.replace("100", "null"), "\udcff"])
def test_a_text_that_is_no_proof_proves_nothing(text: str | None) -> None:
    assert Proof.load(text) is None


COUNTS = st.integers(0, 2**62)
PROOFS = st.builds(
    Proof,
    st.dictionaries(st.text(), st.tuples(st.text(), COUNTS), max_size=3),
    st.lists(st.tuples(st.text(), COUNTS, COUNTS), max_size=3).map(tuple),
    st.dictionaries(st.text(), COUNTS, max_size=3),
    st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat()),
)


@given(PROOFS)
def test_any_proof_survives_its_text(proof: Proof) -> None:
    assert Proof.load(proof.dump()) == proof


def test_gaps_of_the_ledger_and_inputs_of_a_day_are_read_as_before() -> None:
    names = Entry.__dataclass_fields__.keys() - {"gaps", "arrival_micros", "erased", "is_compacted"}
    row = dict.fromkeys(names, 0) | {"arrived_at": EPOCH}
    found = entries_of_ledger([row | {"gaps": text} for text in ("[[3, 5], [9, 10]]", "[]")])
    assert [entry.gaps for entry in found] == [((3, 5), (9, 10)), ()]
    inputs = '{"silver.events": 7, "silver.sessions": 9}'
    day = DayState("gold.days", EPOCH.date(), "final", 1, 2, inputs, "c", EPOCH)
    assert day.read_inputs() == {"silver.events": 7, "silver.sessions": 9}


def test_the_plan_of_a_state_is_compared_as_before(tmp_path: Path) -> None:
    lines = ("Aggregate [user_id], [sum(n) AS n]", "Source silver.events [user_id], types all, watermark 10 minutes")
    checkpoint, plan = Checkpoint(Folder(str(tmp_path))), StatePlan(lines, "4.2.0")
    state_plan.check(checkpoint, "q", plan)
    assert checkpoint.read_text("headrace_plan.json") == PLAN
    state_plan.check(checkpoint, "q", plan)
    with pytest.raises(PlanChangedError, match="10 minutes became"):
        state_plan.check(checkpoint, "q", replace(plan, lines=(lines[0], lines[1].replace("10", "20"))))
    state_plan.check(checkpoint, "q", replace(plan, spark="4.3.0"))
    assert checkpoint.read_text("headrace_plan.json") == PLAN.replace("4.2.0", "4.3.0")


@given(st.lists(TEXTS).map(tuple), st.lists(TEXTS).map(tuple))
def test_any_plan_is_as_it_was_written_and_no_other(lines: tuple[str, ...], others: tuple[str, ...]) -> None:
    with TemporaryDirectory() as place:
        checkpoint = Checkpoint(Folder(place))
        state_plan.check(checkpoint, "q", StatePlan(lines, "4.2.0"))
        state_plan.check(checkpoint, "q", StatePlan(lines, "4.2.0"))
        with nullcontext() if lines == others else pytest.raises(PlanChangedError):
            state_plan.check(checkpoint, "q", StatePlan(others, "4.2.0"))


def test_swaps_that_older_code_has_begun_are_half_done(tmp_path: Path) -> None:
    lakehouse, context = (
        LakehouseResource(root=str(tmp_path)),
        StreamContext(str(tmp_path), {}, "earliest", 1, 1, 1, None),
    )
    stream = next(stream for stream in load_streams() if stream.name == "sessions")
    assert isinstance(stream, TableStream)
    shadow, of_range = Shadow(stream, context, lakehouse), RangeReplay(stream, context, lakehouse, ReplayScope())
    assert not is_half_done(shadow) and not of_range.is_half_done()
    for text in (SWAPPING, UNDOING):
        lakehouse.folder.write_file("_replays/sessions.before/swap.json", text)
        lakehouse.folder.write_file("_replays/sessions.range/range.json", text)
        assert is_half_done(shadow) and of_range.is_half_done()
    for state in (b"compared", b"swapped"):
        lakehouse.folder.write_file("_replays/sessions.before/swap.json", SWAPPING.replace(b"swapping", state))
        lakehouse.folder.write_file("_replays/sessions.range/range.json", b'{"state": "%s"}' % state)
        assert not is_half_done(shadow) and not of_range.is_half_done()


def test_a_backup_is_compared_with_what_older_code_has_listed(tmp_path: Path) -> None:
    at = "2026-11-28T01:45:00+00:00"
    manifest = f'{{\n "tables": {{\n  "platform.late_events": 0\n }},\n "root": "/lake",\n "created_at": "{at}"\n}}'
    place, settings = tmp_path / "copy", Settings(home=tmp_path, lakehouse=str(tmp_path / "lakehouse"))
    place.mkdir()
    (place / MANIFEST).write_text(manifest)
    with pytest.raises(StorageError, match=r"{}, not {'platform.late_events': 0}"):
        restore([], settings, str(place))
