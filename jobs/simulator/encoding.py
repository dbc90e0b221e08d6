"""Encodes deliveries (rows of numbers) as records (key and JSON bytes), many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.catalogue import DEVICES, Catalogue
from jobs.simulator.delivery_habits import FAULTS
from jobs.simulator.encoded_values import mix_ids, spell_hex, spell_times, spell_unknown_fields, spell_uuids
from jobs.simulator.faults import SHOP_RECORD, break_values
from jobs.simulator.shopper import EVENT_TYPES, PURCHASE

_EVENT = (
    b'{"event_id":"%b","event_type":"%b","timestamp":"%bZ","user_id":"%b",%b,'
    b'"session_id":"session-%b",%b,"revenue":%b%b}'
)
_EVENT_TYPES = np.array([name.encode() for name in EVENT_TYPES], dtype=object)
_MOBILE = DEVICES.index("mobile")


class Encoder:
    """Writes deliveries as records. Stateless but for its tables: the same row always gives the same bytes."""

    def __init__(self, catalogue: Catalogue, seed: int, run: int, without_revenue: float = 0.0) -> None:
        """`run` (the run's start) makes session ids of two runs differ."""
        self._catalogue = catalogue
        self._without_revenue = without_revenue
        self._salt = int(np.random.default_rng([seed, 4, run]).integers(0, 2**63))

    def encode(self, rows: NDArray[np.void]) -> Iterator[tuple[int, bytes, bytes | None, int]]:
        """(sent_at in microseconds, key, value, label) for each delivery of the shop's actions, in order."""
        if not len(rows):
            return iter(())
        catalogue = self._catalogue
        country = catalogue.user_country[rows["user"]]
        # The mobile app's clock gives microseconds, the web's milliseconds.
        stamps = spell_times(np.ascontiguousarray(rows["timestamp"]), rows["device"] == _MOBILE)
        ids = mix_ids(rows["session"].astype(np.uint64), self._salt)
        sessions: list[bytes] = spell_hex(ids).view("S16").ravel().tolist()
        # Nothing is in the table's column 0: quantity 0 has revenue 0.
        sold = np.where(rows["event_type"] == PURCHASE, rows["quantity"], 0)
        revenues = catalogue.revenue_json[rows["product"], sold]
        # Keyed by the event's id, so that its repetition is the same.
        revenues[(rows["event_type"] == PURCHASE) & (rows["id_high"] / 2.0**64 < self._without_revenue)] = b"null"
        users: list[bytes] = catalogue.user_ids[rows["user"]].tolist()
        values: list[bytes | None] = [
            _EVENT % fields
            for fields in zip(
                spell_uuids(rows["id_high"], rows["id_low"]),
                _EVENT_TYPES[rows["event_type"]].tolist(),
                stamps,
                users,
                catalogue.product_json[rows["product"], rows["quantity"]].tolist(),
                sessions,
                catalogue.session_json[rows["device"], country].tolist(),
                revenues.tolist(),
                spell_unknown_fields(rows),
                strict=True,
            )
        ]
        break_values(SHOP_RECORD, FAULTS, values, rows)
        return zip(rows["sent_at"].tolist(), users, values, rows["label"].tolist(), strict=True)
