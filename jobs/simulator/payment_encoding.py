"""Encodes deliveries of card transactions as records (key and JSON bytes), many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.encoded_values import mix_ids, spell_hex, spell_times, spell_unknown_fields, spell_uuids
from jobs.simulator.faults import BreakableRecord, break_values
from jobs.simulator.payment_catalogue import CHIP, PaymentCatalogue
from jobs.simulator.payment_profile import PaymentProfile

KINDS = ("payment", "refund", "reversal")
PAYMENT, REFUND, REVERSAL = range(len(KINDS))
# What happens to a card, before anything happens to its record.
ACTION = np.dtype(
    [
        ("at", "i8"),
        ("amount", "u4"),  # hundredths
        ("device", "u4"),
        ("remaining", "u4"),  # seconds until the last transaction of a thief's series
        ("card", "u4"),
        ("merchant", "u2"),
        ("kind", "u1"),
        ("channel", "u1"),
        ("country", "u1"),
        ("names_country", "u1"),
        ("is_fraud", "u1"),
    ]
)

CARD_RECORD = BreakableRecord(
    required=(
        "transaction_id", "kind", "timestamp", "card_id", "customer_id", "merchant_id", "merchant_category", "amount",
        "currency",
    ),
    text="merchant_name",
    long_text="merchant_name",
    event_type="kind",
    unknown_types=("chargeback", "PAYMENT", "payment ", "authorisation"),
    wrong_types=(
        {"amount": "12,30"},
        {"amount": 1.234},
        {"amount": 10**17},
        {"amount": True},
        {"card_id": 4711},
        {"merchant_name": {"en": "Baker", "de": "B\u00e4cker"}},
        {"country": ["DE", "FR"]},
        {"is_fraud": "no"},
    ),
    negative_amounts=({"amount": -19.99}, {"amount": -0.01}),
    bad_values=({"currency": "eur"}, {"currency": "EURO"}, {"currency": "\u20ac"}, {"currency": ""}),
)  # fmt: skip

_TRANSACTION = b'{"transaction_id":"%b","kind":"%b","timestamp":"%bZ",%b,%b,"amount":%d.%02d,%b,"device":"%b"%b}'
_PLACE = ("country", "names_country", "channel", "is_fraud")
_KINDS = np.array([name.encode() for name in KINDS], dtype=object)


class PaymentEncoder:
    """Writes deliveries as records. Stateless but for its tables: the same row always gives the same bytes."""

    def __init__(self, catalogue: PaymentCatalogue, seed: int) -> None:
        self._catalogue = catalogue
        self._salt = int(np.random.default_rng([seed, 4]).integers(0, 2**63))

    def encode(self, rows: NDArray[np.void]) -> Iterator[tuple[int, bytes, bytes | None, int]]:
        """Implements `RecordEncoder.encode`."""
        if not len(rows):
            return iter(())
        catalogue, card = self._catalogue, rows["card"]
        # Terminals give milliseconds, servers microseconds.
        stamps = spell_times(np.ascontiguousarray(rows["timestamp"]), rows["channel"] > CHIP)
        mixed = mix_ids(rows["device"].astype(np.uint64), self._salt)
        devices: list[bytes] = spell_hex(mixed).view("S16").ravel().tolist()
        units, hundredths = np.divmod(rows["amount"], 100)
        values: list[bytes | None] = [
            _TRANSACTION % fields
            for fields in zip(
                spell_uuids(rows["id_high"], rows["id_low"]),
                _KINDS[rows["kind"]].tolist(),
                stamps,
                catalogue.card_json[card].tolist(),
                catalogue.merchant_json[rows["merchant"]].tolist(),
                units.tolist(),
                hundredths.tolist(),
                catalogue.place_json[tuple(rows[name] for name in _PLACE)].tolist(),
                devices,
                spell_unknown_fields(rows),
                strict=True,
            )
        ]
        break_values(CARD_RECORD, PaymentProfile.faults, values, rows)
        keys: list[bytes] = catalogue.card_keys[card].tolist()
        return zip(rows["sent_at"].tolist(), keys, values, rows["label"].tolist(), strict=True)
