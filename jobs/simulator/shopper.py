"""What one shopper does in one session, and a library of such sessions to draw from."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.profile import ShopProfile

EVENT_TYPES = ("page_view", "add_to_cart", "remove_from_cart", "purchase")
PAGE_VIEW, ADD_TO_CART, REMOVE_FROM_CART, PURCHASE = range(4)
MAX_QUANTITY = 4

# Sessions are drawn from a library: telling each shopper's story anew in Python costs five times the rest of an event.
# 8,192 different stories keep the sampling error of a session's rates under half a percentage point.
_LIBRARY_SIZE = 8192
# Longer sessions than this are crawlers; without a bound one of them would make the library as long as it likes.
_MAX_VIEWS = 60


class Step(NamedTuple):
    """One action. `slot` numbers the products that a session meets (0, 1, ...), in order of first view."""

    event_type: int
    slot: int
    quantity: int


def walk(rng: random.Random, profile: ShopProfile) -> list[Step]:
    """One session: page views, some of them into the cart, some out again, perhaps a purchase of what is left.

    A product is in the cart only after its view, is removed or bought only while in the cart, and with the quantity
    that went in. Never empty.
    """
    steps = [Step(PAGE_VIEW, 0, 1)]
    if rng.random() < profile.bounce_rate:
        return steps
    slots = 1
    cart: dict[int, int] = {}
    views = 1
    while True:
        slot = steps[-1].slot
        if steps[-1].event_type == PAGE_VIEW and slot not in cart and rng.random() < profile.cart_rate:
            cart[slot] = min(1 + int(rng.expovariate(1.6)), MAX_QUANTITY)
            steps.append(Step(ADD_TO_CART, slot, cart[slot]))
            if rng.random() < profile.remove_rate:
                removed = rng.choice(list(cart))
                steps.append(Step(REMOVE_FROM_CART, removed, cart.pop(removed)))
        if views >= _MAX_VIEWS or rng.random() < 1 / profile.views_per_session:
            break
        views += 1
        returns = slots > 1 and rng.random() < 0.2
        steps.append(Step(PAGE_VIEW, rng.randrange(slots) if returns else slots, 1))
        slots += not returns
    if cart and rng.random() < profile.purchase_rate:
        steps += [Step(PURCHASE, slot, quantity) for slot, quantity in cart.items()]
    return steps


class SessionLibrary(NamedTuple):
    """Sessions one after the other in flat arrays: session `i` is `steps[first[i] : first[i] + length[i]]`."""

    first: NDArray[np.int64]
    length: NDArray[np.int64]
    slots: NDArray[np.int64]
    event_type: NDArray[np.uint8]
    slot: NDArray[np.int64]
    quantity: NDArray[np.uint8]

    @property
    def mean_length(self) -> float:
        """Events of a session, on average."""
        return float(self.length.mean())


def build_library(profile: ShopProfile, seed: int) -> SessionLibrary:
    """The sessions that this profile's shoppers live through; the same for the same seed."""
    rng = random.Random(seed)
    sessions = [walk(rng, profile) for _ in range(_LIBRARY_SIZE)]
    length = np.array([len(session) for session in sessions], dtype=np.int64)
    steps = np.array([step for session in sessions for step in session], dtype=np.int64)
    return SessionLibrary(
        first=np.cumsum(length) - length,
        length=length,
        slots=np.array([1 + max(step.slot for step in session) for session in sessions], dtype=np.int64),
        event_type=steps[:, 0].astype(np.uint8),
        slot=steps[:, 1],
        quantity=steps[:, 2].astype(np.uint8),
    )
