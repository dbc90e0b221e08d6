"""Ids, times and other parts of many records at once, as the bytes that stand in their JSON."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.deliveries import UNKNOWN_FIELDS

_EXTRA = (
    b',"referrer":"https://search.example/?q=%d","experiment":{"name":"checkout-v2","arm":1}',
    b',"app_version":"5.%d.0","is_member":true',
    b',"coupon":null,"tags":["sale","%d"]',
)
_HEX = np.array([ord(high) | ord(low) << 8 for high in "0123456789abcdef" for low in "0123456789abcdef"], "<u2")


def spell_hex(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Each number of an (n,) or (n, k) array as 16 hexadecimal digits: (n, 16 k) ASCII codes."""
    octets = np.ascontiguousarray(numbers.astype(">u8")).view(np.uint8).reshape(len(numbers), -1)
    return _HEX[octets].view(np.uint8)


def spell_uuids(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> list[bytes]:
    """Random bits as version-4 UUIDs in their usual spelling."""
    high = high & np.uint64(0xFFFFFFFFFFFF0FFF) | np.uint64(0x4000)
    low = low & np.uint64(0x3FFFFFFFFFFFFFFF) | np.uint64(0x8000000000000000)
    digits = spell_hex(np.stack([high, low], axis=1))
    text = np.full((len(high), 36), ord("-"), np.uint8)
    for target, source in ((0, 0), (9, 8), (14, 12), (19, 16), (24, 20)):
        width = 12 if target == 24 else 8 if target == 0 else 4
        text[:, target : target + width] = digits[:, source : source + width]
    uuids: list[bytes] = text.view("S36").ravel().tolist()
    return uuids


def mix_ids(numbers: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """A bijection of 64-bit numbers (splitmix64): different sessions get different, random-looking ids."""
    x = numbers + np.uint64(salt & 0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def as_fractions(mixed: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers from 0 to 1, without 1, of the upper bits of mixed ids: always the same for the same id."""
    return np.asarray((mixed >> np.uint64(11)) / 2.0**53)


def spell_times(timestamps: NDArray[np.int64], in_microseconds: NDArray[np.bool_]) -> list[bytes]:
    """ISO-8601 without the zone: six decimals where asked, else three (cut, never rounded up)."""
    full = np.datetime_as_string(timestamps.view("M8[us]"), unit="us").astype("S26")
    stamps: list[bytes] = np.where(in_microseconds, full, full.astype("S23")).tolist()
    return stamps


def spell_unknown_fields(rows: NDArray[np.void]) -> list[bytes]:
    """What stands behind the known fields of each delivery: others, where its label says so, with a comma in front."""
    extras = [b""] * len(rows)
    for i in np.flatnonzero(rows["label"] & UNKNOWN_FIELDS):
        variant = int(rows["id_low"][i])
        extras[i] = _EXTRA[variant % len(_EXTRA)] % (variant // 7 % 40)
    return extras
