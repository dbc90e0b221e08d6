"""What each shopper likes: a few aisles of the shop, to one of which most views of a session go."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.catalogue import Catalogue

# With one aisle each a shopper would have nothing new to see there; with many, nobody is like anybody else.
_AISLES_OF_ONE_USER = 3
# Bits of a draw below these decide what the draw's value itself must not say: which aisle, and whether it is one.
_ASIDE, _FOCUS = 2.0**16, 2.0**24


class Tastes(NamedTuple):
    """Products in the order of their aisles. `bounds` are cumulative weights, those of aisle `a` from `a` to `a + 1`.

    `user_aisles[user]` are the aisles that a user likes; one with more products is liked by more users.
    """

    strength: float
    products: NDArray[np.int64]
    bounds: NDArray[np.float64]
    user_aisles: NDArray[np.int64]

    def draw(
        self,
        drawn: NDArray[np.float64],
        popular: NDArray[np.int64],
        user: NDArray[np.int64],
        slots: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """The products that the sessions of these users meet, `slots[i]` of them in session `i`.

        `drawn` is a number from 0 to 1 for each of them, `popular` what it means to a shopper without taste. No other
        number is drawn, so that who comes when, and with which device, does not depend on the tastes.
        """
        if not self.strength or not len(drawn):
            return popular
        first = np.cumsum(slots) - slots
        choice = (drawn[first] * _FOCUS % 1 * self.user_aisles.shape[1]).astype(np.int64)
        aisle = np.repeat(self.user_aisles[user, choice], slots)
        found = np.searchsorted(self.bounds, aisle + drawn, side="right")
        # A number next to 1 is rounded up to the next aisle's first.
        liked = self.products[np.minimum(found, len(self.products) - 1)]
        return np.where(drawn * _ASIDE % 1 < self.strength, liked, popular)


def build_tastes(catalogue: Catalogue, strength: float, rng: np.random.Generator) -> Tastes:
    """The tastes of the catalogue's users; the same for the same state of `rng`."""
    weights = np.diff(catalogue.product_weights, prepend=0.0)
    names, aisle = np.unique(catalogue.product_aisle, return_inverse=True)
    products = np.argsort(aisle, kind="stable")
    bounds = np.empty(len(products))
    for number in range(len(names)):
        own = aisle[products] == number
        shares = np.cumsum(weights[products][own])
        bounds[own] = number + shares / shares[-1]
    of_product = rng.integers(len(products), size=(len(catalogue.user_ids), _AISLES_OF_ONE_USER))
    return Tastes(strength, products, bounds, aisle[of_product])
