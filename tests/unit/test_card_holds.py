"""Held cards: whatever the order of holds and releases, a card is held while its newest hold is the newer one."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.fraud.held_cards import list_held
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.card_holds import CARD_HOLDS
from platform_assets.tables.fraud import CARD_RELEASES
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=20)


@examples(25)
@given(EVENTS)
def test_a_card_is_held_by_what_came_last(events: list[tuple[str, int, bool]]) -> None:
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for number, (card, minute, is_hold) in enumerate(events):
        row = {"card_id": card, "as_of": NOON + timedelta(minutes=minute), "score_id": f"t{number}", "score": 0.9}
        rows[is_hold].append(row)
    with tempfile.TemporaryDirectory() as folder:
        lakehouse = LakehouseResource(root=folder)
        for spec, own in ((CARD_HOLDS, rows[True]), (CARD_RELEASES, rows[False])):
            schema = build_arrow_schema(spec)
            table = create_table(lakehouse.table_uri(spec.name), spec)
            known = [{name: value for name, value in row.items() if name in schema.names} for row in own]
            write_deltalake(table, pa.Table.from_pylist(known, schema), mode="append")
        found = {each.card_id: each.since for each in list_held(lakehouse)}

    # Minute by minute: of one minute's hold and release the release counts.
    expected: dict[str, datetime] = {}
    for card, minute, is_hold in sorted(events, key=lambda event: (event[1], not event[2])):
        if is_hold:
            expected[card] = NOON + timedelta(minutes=minute)
        else:
            expected.pop(card, None)
    assert found == expected
