"""Item-to-item recommendation on implicit feedback: which product leads to which, and what follows for a user.

A linear model in closed form (Steck: Embarrassingly shallow autoencoders for sparse data, 2019): each product is
predicted from all others by ridge regression, so that what is popular with everybody says little about anything. Pure
functions over arrays; products and users are numbers from 0 on, whose names the caller knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The ridge, in units of the products' mean weight: far less follows every chance, far more gives all products the
# same neighbours. Between 0.2 and 1 the recall of the simulated shop is the same to one percent.
_RIDGE = 1.0
# The model holds three square matrices of its products: of 4,000 that is 400 MB, of 10,000 2.4 GB.
MOST_PRODUCTS = 4_000
# What is recommended to this many users at once stays in tens of MB.
_BLOCK_USERS = 1024
# Sums depend in their last bits on the order of rows and threads: scores that differ by less are equal.
_DIGITS = 9


class Neighbours(NamedTuple):
    """What each product leads to: `other[i]` is a neighbour of `product[i]`, `rank[i]` from 1 on."""

    product: NDArray[np.int64]
    other: NDArray[np.int64]
    score: NDArray[np.float64]
    rank: NDArray[np.int64]

    def as_matrix(self, products: int) -> Any:
        """A sparse matrix, a row a product, of its neighbours' scores."""
        from scipy import sparse

        return sparse.csr_matrix((self.score, (self.product, self.other)), shape=(products, products))


class Recommended(NamedTuple):
    """Products for users, `rank` from 1 on. `because` is the product of the user's own that says most for it."""

    user: NDArray[np.int64]
    product: NDArray[np.int64]
    score: NDArray[np.float64]
    rank: NDArray[np.int64]
    because: NDArray[np.int64]


def find_neighbours(
    user: NDArray[np.int64], product: NDArray[np.int64], weight: NDArray[np.float64], products: int, most: int
) -> Neighbours:
    """Finds at most `most` neighbours of each product, best first, with scores above 0.

    A row is a user's whole weight for a product, above 0; no two rows are of one user and product. Weights count by
    their logarithm: one who looks a hundred times is not a hundred users. Of a catalogue of more than `MOST_PRODUCTS`
    only those with most users have neighbours, and are some.
    """
    import numpy as np
    from scipy import sparse

    users = int(user.max()) + 1 if len(user) else 0
    known = sparse.csr_matrix((np.log1p(weight), (user, product)), shape=(users, products))
    chosen = np.sort(np.argsort(-np.bincount(product, minlength=products), kind="stable")[:MOST_PRODUCTS])
    known = known[:, chosen]
    gram = np.asarray((known.T @ known).todense(), dtype=np.float64)
    # A product that nobody knows would make the matrix singular.
    gram[np.diag_indices_from(gram)] += _RIDGE * max(float(gram.diagonal().mean()) if len(gram) else 0.0, 1e-9)
    inverse = np.linalg.inv(gram)
    scores = _round(inverse / -inverse.diagonal())
    np.fill_diagonal(scores, 0.0)
    row, column = np.nonzero(scores > 0)
    found = keep_best(row, column, scores[row, column], most)
    return Neighbours(chosen[found[0]], chosen[found[1]], found[2], found[3])


def recommend(
    user: NDArray[np.int64], product: NDArray[np.int64], weight: NDArray[np.float64], similar: Any, most: int
) -> Recommended:
    """Finds at most `most` products for each user that he has no row of. `similar` as `Neighbours.as_matrix` gives it.

    A score is the sum of what the user's products say, each by the logarithm of its weight.
    """
    import numpy as np
    from scipy import sparse

    products = similar.shape[0]
    users = int(user.max()) + 1 if len(user) else 0
    known = sparse.csr_matrix((np.log1p(weight), (user, product)), shape=(users, products))
    found: list[tuple[NDArray[Any], ...]] = [tuple(np.empty(0, kind) for kind in ("i8", "i8", "f8", "i8", "i8"))]
    for begin in range(0, users, _BLOCK_USERS):
        own = known[begin : begin + _BLOCK_USERS]
        scores = (own @ similar).tocsr()
        # What the user knows is taken out: its score becomes nothing.
        new = (scores - scores.multiply(own.astype(bool))).tocoo()
        kept = new.data > 0
        best = keep_best(new.row[kept], new.col[kept], new.data[kept], most)
        because = _find_reasons(own, similar, best[0], best[1])
        found.append((best[0] + begin, *best[1:], because))
    return Recommended(*(np.concatenate(part) for part in zip(*found, strict=True)))


def keep_best(
    group: NDArray[Any], item: NDArray[Any], score: NDArray[Any], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The rows with the highest scores of each group, at most `most`, and their rank from 1 on.

    Of equal scores the lower item is first.
    """
    import numpy as np

    score = _round(score)
    order = np.lexsort((item, -score, group))
    group, item, score = group[order], item[order], score[order]
    is_first = np.ones(len(group), dtype=bool)
    is_first[1:] = group[1:] != group[:-1]
    begins = np.flatnonzero(is_first)
    rank = np.arange(len(group)) - np.repeat(begins, np.diff(np.append(begins, len(group)))) + 1
    kept = rank <= most
    return group[kept].astype("i8"), item[kept].astype("i8"), score[kept], rank[kept].astype("i8")


def _find_reasons(own: Any, similar: Any, row: NDArray[np.int64], product: NDArray[np.int64]) -> NDArray[np.int64]:
    """Finds the product of the user's own that says most for each recommended one; of equal ones the first.

    Each row is paired with all products of its user, and the pair's score is looked for by one number for both.
    """
    import numpy as np

    counts = np.diff(own.indptr)[row]
    pair = np.repeat(np.arange(len(row)), counts)
    step = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = own.indptr[row][pair] + step
    mine = own.indices[place].astype(np.int64)
    entries = similar.tocoo()
    keys = entries.row.astype(np.int64) * similar.shape[1] + entries.col
    if not len(keys) or not len(pair):
        return np.empty(0, np.int64)
    order = np.argsort(keys)
    wanted = mine * similar.shape[1] + product[pair]
    found = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    said = np.where(keys[found] == wanted, own.data[place] * entries.data[found], 0.0)
    return keep_best(pair, mine, said, 1)[1]


def _round(score: NDArray[Any]) -> NDArray[np.float64]:
    import numpy as np

    return np.asarray(np.round(score, _DIGITS), dtype=np.float64)
