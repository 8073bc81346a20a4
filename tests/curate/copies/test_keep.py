"""Sets of duplicates: closed under pairs, one kept, the strongest reason named."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aqqua.curate.copies.keep import EMBEDDING, EXACT, KINDS, NEAR, RANK, keep_one


def ranks(validated: set[int], area: dict[int, int]):
    def of(rows: np.ndarray) -> np.ndarray:
        out = np.zeros(len(rows), RANK)
        out["key"] = rows
        out["area"] = [area.get(int(row), 1) for row in rows]
        out["validated"] = [int(row) in validated for row in rows]
        return out

    return of


def kept(pairs, validated=frozenset(), area=None):
    a, b, kind = (np.array([p[i] for p in pairs], np.int64) for i in range(3))
    found = keep_one(a, b, kind, ranks(set(validated), area or {}))
    return {
        int(r): (int(k), KINDS[int(w)]) for r, k, w in zip(found.row, found.kept, found.kind, strict=True)
    }


def test_order_of_who_stays():
    pairs = [(5, 9, 1), (9, 7, 1)]
    assert kept(pairs) == {7: (5, NEAR), 9: (5, NEAR)}
    assert kept(pairs, area={7: 10}) == {5: (7, NEAR), 9: (7, NEAR)}
    assert kept(pairs, validated={9}, area={7: 10}) == {5: (9, NEAR), 7: (9, NEAR)}


def test_the_strongest_chain_to_the_kept_one_names_the_kind():
    assert kept([(1, 2, 0), (2, 3, 1), (3, 4, 2), (1, 3, 2)]) == {
        2: (1, EXACT),
        3: (1, NEAR),
        4: (1, EMBEDDING),
    }


def test_no_pairs_no_duplicates():
    none = np.zeros(0, np.int64)
    assert len(keep_one(none, none, none, ranks(set(), {})).row) == 0


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15), st.integers(0, 2)), min_size=1, max_size=30)
)
def test_sets_are_closed_and_the_order_of_pairs_does_not_matter(pairs):
    found = kept(pairs)
    assert kept(pairs[::-1]) == found
    for a, b, _ in pairs:
        assert found.get(a, (a,))[0] == found.get(b, (b,))[0]
    assert all(one not in found for one, _ in found.values())
