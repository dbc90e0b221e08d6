"""Customers, their cards, the merchants and the countries, with the pieces of JSON that each contributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.catalogue import cumulative
from jobs.simulator.payment_profile import PaymentProfile

CHANNELS = ("chip", "contactless", "online", "recurring", "cash")
CHIP, CONTACTLESS, ONLINE, RECURRING, CASH = range(len(CHANNELS))


class Country(NamedTuple):
    """A country, its share of the customers, its currency, and the price there of what costs 1 euro."""

    code: str
    share: float
    currency: str
    price: float


COUNTRIES = (
    Country("DE", 0.30, "EUR", 1.0),
    Country("FR", 0.16, "EUR", 1.0),
    Country("GB", 0.14, "GBP", 0.85),
    Country("US", 0.12, "USD", 1.1),
    Country("ES", 0.08, "EUR", 1.0),
    Country("PL", 0.07, "PLN", 4.3),
    Country("JP", 0.05, "JPY", 160.0),
    Country("SE", 0.04, "SEK", 11.3),
    Country("BR", 0.02, "BRL", 5.9),
    Country("IN", 0.02, "INR", 92.0),
)
# Yen are not divided: their two digits behind the point are 0.
WHOLE = np.array([country.currency == "JPY" for country in COUNTRIES])
PRICES = np.array([country.price for country in COUNTRIES])


class Category(NamedTuple):
    """What merchants sell: their share, the middle and sigma of an amount in euro, how much of it is sold online."""

    name: str
    share: float
    middle: float
    spread: float
    online: float


CATEGORIES = (
    Category("grocery", 0.28, 28.0, 0.7, 0.08),
    Category("restaurant", 0.20, 22.0, 0.6, 0.10),
    Category("fuel", 0.09, 55.0, 0.4, 0.0),
    Category("clothing", 0.11, 60.0, 0.8, 0.55),
    Category("electronics", 0.07, 140.0, 1.0, 0.7),
    Category("pharmacy", 0.08, 18.0, 0.7, 0.2),
    Category("transport", 0.08, 9.0, 0.9, 0.4),
    Category("travel", 0.03, 260.0, 0.9, 0.9),
    Category("subscription", 0.04, 11.0, 0.4, 1.0),
    Category("cash", 0.02, 90.0, 0.6, 0.0),
)
_SUBSCRIPTION, _CASH = (
    next(i for i, category in enumerate(CATEGORIES) if category.name == name) for name in ("subscription", "cash")
)
_NAMES = ("North", "Harbour", "Old Town", "Central", "Green", "Corner", "Royal", "Blue")


@dataclass(frozen=True)
class PaymentCatalogue:
    """Lookup tables. `*_weights` are cumulative, ending at 1, for a draw by binary search.

    `card_json[card]` holds card_id and customer_id, `merchant_json[merchant]` merchant_id to merchant_category,
    `place_json[country, is_sent, channel, is_fraud]` the
    currency, the country (null where it is not sent), the channel and the label.
    """

    card_weights: NDArray[np.float64]
    merchant_weights: NDArray[np.float64]
    card_home: NDArray[np.uint8]
    merchant_country: NDArray[np.uint8]
    merchant_middle: NDArray[np.float64]
    merchant_spread: NDArray[np.float64]
    merchant_online: NDArray[np.float64]
    online_channel: NDArray[np.uint8]
    present_channel: NDArray[np.uint8]
    card_keys: NDArray[np.object_]
    card_json: NDArray[np.object_]
    merchant_json: NDArray[np.object_]
    place_json: NDArray[np.object_]


def build_payment_catalogue(profile: PaymentProfile, rng: np.random.Generator) -> PaymentCatalogue:
    """The customers with their cards, and the merchants; the same for the same state of `rng`."""
    shares = cumulative(np.array([country.share for country in COUNTRIES]))
    customers = profile.customers
    owner = np.concatenate([np.arange(customers), np.flatnonzero(rng.random(customers) < profile.second_card)])
    cards, merchants = len(owner), profile.merchants
    category = np.searchsorted(cumulative(np.array([each.share for each in CATEGORIES])), rng.random(merchants))
    own_level = np.exp(rng.normal(0.0, 0.25, merchants))
    return PaymentCatalogue(
        card_weights=cumulative(np.exp(rng.normal(0.0, 1.0, cards) * profile.customer_skew)),
        merchant_weights=cumulative(np.arange(1, merchants + 1, dtype=np.float64) ** -profile.merchant_skew),
        card_home=np.searchsorted(shares, rng.random(customers)).astype(np.uint8)[owner],
        merchant_country=np.searchsorted(shares, rng.random(merchants)).astype(np.uint8),
        merchant_middle=np.array([each.middle for each in CATEGORIES])[category] * own_level,
        merchant_spread=np.array([each.spread for each in CATEGORIES])[category],
        merchant_online=np.array([each.online for each in CATEGORIES])[category],
        online_channel=np.where(category == _SUBSCRIPTION, RECURRING, ONLINE).astype(np.uint8),
        present_channel=np.where(category == _CASH, CASH, CHIP).astype(np.uint8),
        card_keys=np.array([b"card-%07d" % card for card in range(cards)], dtype=object),
        card_json=np.array(
            [b'"card_id":"card-%07d","customer_id":"customer-%07d"' % pair for pair in enumerate(owner.tolist())],
            dtype=object,
        ),
        merchant_json=np.array([_describe(*pair) for pair in enumerate(category.tolist())], dtype=object),
        place_json=_build_places(),
    )


def _describe(merchant: int, category: int) -> bytes:
    what = CATEGORIES[category].name
    name = f"{_NAMES[merchant % len(_NAMES)]} {what.capitalize()} {merchant}"
    return f'"merchant_id":"merchant-{merchant:05d}","merchant_name":"{name}","merchant_category":"{what}"'.encode()


def _build_places() -> NDArray[np.object_]:
    """Pieces by the country in which was paid, its code sent or not, the channel, and the label."""
    places = np.empty((len(COUNTRIES), 2, len(CHANNELS), 2), dtype=object)
    for i, country in enumerate(COUNTRIES):
        for j, code in enumerate(("null", f'"{country.code}"')):
            for k, channel in enumerate(CHANNELS):
                for m, label in enumerate(("false", "true")):
                    place = f'"currency":"{country.currency}","country":{code},"channel":"{channel}","is_fraud":{label}'
                    places[i, j, k, m] = place.encode()
    return places
