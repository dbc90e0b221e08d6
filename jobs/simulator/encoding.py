"""Encodes deliveries (rows of numbers) as records (key and JSON bytes), many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.catalogue import DEVICES, Catalogue
from jobs.simulator.faults import corrupt
from jobs.simulator.profile import FAULTS
from jobs.simulator.shopper import EVENT_TYPES, PURCHASE

# A delivery's label: flags in the low four bits, the fault (0: none, else 1 + its index in FAULTS) in the high four.
DUPLICATE, LATE, OUT_OF_ORDER, UNKNOWN_FIELDS = 1, 2, 4, 8
FAULT_SHIFT = 4

DELIVERY = np.dtype(
    [
        ("sent_at", "i8"),
        ("timestamp", "i8"),
        ("id_high", "u8"),
        ("id_low", "u8"),
        ("user", "u4"),
        ("session", "u4"),
        ("product", "u2"),
        ("event_type", "u1"),
        ("quantity", "u1"),
        ("device", "u1"),
        ("label", "u1"),
    ]
)

_EVENT = (
    b'{"event_id":"%b","event_type":"%b","timestamp":"%bZ","user_id":"%b",%b,'
    b'"session_id":"session-%b",%b,"revenue":%b%b}'
)
_EXTRA = (
    b',"referrer":"https://search.example/?q=%d","experiment":{"name":"checkout-v2","arm":1}',
    b',"app_version":"5.%d.0","is_member":true',
    b',"coupon":null,"tags":["sale","%d"]',
)
_HEX = np.array([ord(high) | ord(low) << 8 for high in "0123456789abcdef" for low in "0123456789abcdef"], "<u2")
_EVENT_TYPES = np.array([name.encode() for name in EVENT_TYPES], dtype=object)
_MOBILE = DEVICES.index("mobile")


def _hex(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Each number of an (n,) or (n, k) array as 16 hexadecimal digits: (n, 16 k) ASCII codes."""
    octets = np.ascontiguousarray(numbers.astype(">u8")).view(np.uint8).reshape(len(numbers), -1)
    return _HEX[octets].view(np.uint8)


def _uuids(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> list[bytes]:
    """Random bits as version-4 UUIDs in their usual spelling."""
    high = high & np.uint64(0xFFFFFFFFFFFF0FFF) | np.uint64(0x4000)
    low = low & np.uint64(0x3FFFFFFFFFFFFFFF) | np.uint64(0x8000000000000000)
    digits = _hex(np.stack([high, low], axis=1))
    text = np.full((len(high), 36), ord("-"), np.uint8)
    for target, source in ((0, 0), (9, 8), (14, 12), (19, 16), (24, 20)):
        width = 12 if target == 24 else 8 if target == 0 else 4
        text[:, target : target + width] = digits[:, source : source + width]
    uuids: list[bytes] = text.view("S36").ravel().tolist()
    return uuids


def _mixed(numbers: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """A bijection of 64-bit numbers (splitmix64): different sessions get different, random-looking ids."""
    x = numbers + np.uint64(salt & 0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def _iso(timestamps: NDArray[np.int64], in_microseconds: NDArray[np.bool_]) -> list[bytes]:
    """ISO-8601 without the zone: six decimals where asked, else three (cut, never rounded up)."""
    full = np.datetime_as_string(timestamps.view("M8[us]"), unit="us").astype("S26")
    stamps: list[bytes] = np.where(in_microseconds, full, full.astype("S23")).tolist()
    return stamps


class Encoder:
    """Writes deliveries as records. Stateless but for its tables: the same row always gives the same bytes."""

    def __init__(self, catalogue: Catalogue, seed: int, run: int, without_revenue: float = 0.0) -> None:
        """`run` (the run's start) makes session ids of two runs differ."""
        self._catalogue = catalogue
        self._without_revenue = without_revenue
        self._salt = int(np.random.default_rng([seed, 4, run]).integers(0, 2**63))

    def encode(self, rows: NDArray[np.void]) -> Iterator[tuple[int, bytes, bytes | None, int]]:
        """(sent_at in microseconds, key, value, label) for each row of dtype `DELIVERY`, in order."""
        if not len(rows):
            return iter(())
        catalogue, labels = self._catalogue, rows["label"]
        country = catalogue.user_country[rows["user"]]
        # The mobile app's clock gives microseconds, the web's milliseconds.
        stamps = _iso(np.ascontiguousarray(rows["timestamp"]), rows["device"] == _MOBILE)
        sessions: list[bytes] = _hex(_mixed(rows["session"].astype(np.uint64), self._salt)).view("S16").ravel().tolist()
        # Nothing is in the table's column 0: quantity 0 has revenue 0.
        sold = np.where(rows["event_type"] == PURCHASE, rows["quantity"], 0)
        extras = [b""] * len(rows)
        for i in np.flatnonzero(labels & UNKNOWN_FIELDS):
            variant = int(rows["id_low"][i])
            extras[i] = _EXTRA[variant % len(_EXTRA)] % (variant // 7 % 40)
        revenues = catalogue.revenue_json[rows["product"], sold]
        # Keyed by the event's id, so that its repetition is the same.
        revenues[(rows["event_type"] == PURCHASE) & (rows["id_high"] / 2.0**64 < self._without_revenue)] = b"null"
        users: list[bytes] = catalogue.user_ids[rows["user"]].tolist()
        values: list[bytes | None] = [
            _EVENT % fields
            for fields in zip(
                _uuids(rows["id_high"], rows["id_low"]),
                _EVENT_TYPES[rows["event_type"]].tolist(),
                stamps,
                users,
                catalogue.product_json[rows["product"], rows["quantity"]].tolist(),
                sessions,
                catalogue.session_json[rows["device"], country].tolist(),
                revenues.tolist(),
                extras,
                strict=True,
            )
        ]
        for i in np.flatnonzero(labels >> FAULT_SHIFT):
            valid = values[i]
            if valid is not None:
                values[i] = corrupt(FAULTS[(int(labels[i]) >> FAULT_SHIFT) - 1], valid, int(rows["id_high"][i]) >> 8)
        return zip(rows["sent_at"].tolist(), users, values, labels.tolist(), strict=True)
