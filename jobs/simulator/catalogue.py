"""The shop's products, customers, devices and countries, with the pieces of JSON that each contributes to an event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.profile import ShopProfile
from jobs.simulator.shopper import MAX_QUANTITY

DEVICES = ("mobile", "desktop", "tablet")
_DEVICE_SHARES = (0.58, 0.36, 0.06)
COUNTRIES = ("US", "DE", "GB", "FR", "IN", "BR", "JP", "CA", "NL", "ES", "PL", "SE")
_COUNTRY_SHARES = (0.30, 0.16, 0.11, 0.08, 0.08, 0.06, 0.06, 0.05, 0.03, 0.03, 0.02, 0.02)
# A category's nouns and the middle of its prices.
_CATEGORIES: dict[str, tuple[tuple[str, ...], float]] = {
    "electronics": (("Headphones", "Keyboard", "Speaker", "Charger", "Camera"), 90.0),
    "clothing": (("Jacket", "Shirt", "Jeans", "Sweater", "Raincoat"), 45.0),
    "home": (("Lamp", "Kettle", "Blanket", "Shelf", "Mirror"), 35.0),
    "sports": (("Running Shoe", "Yoga Mat", "Tent", "Bottle", "Helmet"), 55.0),
    "books": (("Novel", "Atlas", "Cookbook", "Biography", "Comic"), 15.0),
    "beauty": (("Serum", "Soap", "Perfume", "Brush", "Balm"), 20.0),
    "toys": (("Puzzle", "Kite", "Train Set", "Doll", "Board Game"), 25.0),
    "garden": (("Hose", "Planter", "Shears", "Bird House", "Lantern"), 30.0),
}
# A product's price in yen for one in cents. Yen have no cents.
_YEN_A_CENT = 1.5
_GOLDEN_RATIO = 0.6180339887498949
_ADJECTIVES = ("Nordic", "Classic", "Compact", "Urban", "Alpine", "Vintage", "Pure", "Bold")


def _decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


@dataclass(frozen=True)
class Catalogue:
    """Lookup tables. `*_weights` are cumulative, ending at 1, for a draw by binary search.

    `product_json[product, quantity]` holds the fields product_id to quantity (and currency, where the shop sends one),
    `revenue_json[product, quantity]` the revenue of a purchase: price x quantity in whole cents, so that it is exact.
    `session_json[device, country]` holds device_type and country. Products of one `product_aisle` are of a kind.
    """

    product_weights: NDArray[np.float64]
    product_aisle: NDArray[np.int64]
    user_weights: NDArray[np.float64]
    device_weights: NDArray[np.float64]
    user_ids: NDArray[np.object_]
    user_country: NDArray[np.uint8]
    user_device: NDArray[np.uint8]
    product_json: NDArray[np.object_]
    revenue_json: NDArray[np.object_]
    session_json: NDArray[np.object_]


def cumulative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights as shares, added up: the last one is 1, for a draw by binary search."""
    total = np.cumsum(weights / weights.sum())
    total[-1] = 1.0
    return np.asarray(total, dtype=np.float64)


def build_catalogue(profile: ShopProfile, rng: np.random.Generator) -> Catalogue:
    """The shop's catalogue and customers; the same for the same state of `rng`."""
    products, users = profile.products, profile.users
    product_json = np.empty((products, MAX_QUANTITY + 1), dtype=object)
    revenue_json = np.empty((products, MAX_QUANTITY + 1), dtype=object)
    product_aisle = np.empty(products, dtype=np.int64)
    categories = list(_CATEGORIES.items())
    for product in range(products):
        kind = int(rng.integers(len(categories)))
        category, (nouns, middle) = categories[kind]
        adjective, noun = int(rng.integers(len(_ADJECTIVES))), int(rng.integers(len(nouns)))
        product_aisle[product] = kind * len(nouns) + noun
        name = f"{_ADJECTIVES[adjective]} {nouns[noun]} {product}"
        cents = max(99, round(middle * float(np.exp(rng.normal(0.0, 0.6)))) * 100 - 1)
        # Spread evenly over popular and other products, at any rate.
        is_yen = product * _GOLDEN_RATIO % 1 < profile.second_currency
        cents = round(cents * _YEN_A_CENT) * 100 if is_yen else cents
        currency = f',"currency":"{"JPY" if is_yen else "EUR"}"' if profile.second_currency else ""
        for quantity in range(MAX_QUANTITY + 1):
            product_json[product, quantity] = (
                f'"product_id":"product-{product:05d}","product_name":"{name}","category":"{category}",'
                f'"price":{_decimal(cents)},"quantity":{quantity}{currency}'
            ).encode()
            revenue_json[product, quantity] = _decimal(cents * quantity).encode()
    session_json = np.empty((len(DEVICES), len(COUNTRIES)), dtype=object)
    for i, device in enumerate(DEVICES):
        for j, country in enumerate(COUNTRIES):
            session_json[i, j] = f'"device_type":"{device}","country":"{country}"'.encode()
    return Catalogue(
        product_weights=cumulative(np.arange(1, products + 1, dtype=np.float64) ** -profile.product_skew),
        product_aisle=product_aisle,
        user_weights=cumulative(np.exp(rng.normal(0.0, 1.0, users) * profile.user_skew)),
        device_weights=cumulative(np.array(_DEVICE_SHARES)),
        user_ids=np.array([f"user-{user:07d}".encode() for user in range(users)], dtype=object),
        user_country=np.searchsorted(cumulative(np.array(_COUNTRY_SHARES)), rng.random(users)).astype(np.uint8),
        user_device=np.searchsorted(cumulative(np.array(_DEVICE_SHARES)), rng.random(users)).astype(np.uint8),
        product_json=product_json,
        revenue_json=revenue_json,
        session_json=session_json,
    )
