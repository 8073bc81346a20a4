"""Sums in whole numbers: right to float32, and the same bits in any order and cut."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from aqqua.curate.clusters.exact_sums import ClusterSums
from aqqua.train.ranks import Ranks


def sums_of(x, label, squared, order, cuts, largest):
    sums = ClusterSums(5, x.shape[1], len(x), largest, x.device)
    for rows in torch.tensor_split(order, cuts):
        sums.add(x[rows], label[rows], squared[rows])
    sums.reduce(Ranks())
    return sums


@given(scale=st.sampled_from([1e-6, 1.0, 60_000.0, 1e14]), seed=st.integers(0, 50), pieces=st.integers(1, 9))
def test_any_order_gives_the_same_bits_and_they_are_right(scale, seed, pieces):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(900, 3, generator=draw) * scale
    label, squared = torch.randint(0, 4, (900,), generator=draw), x.square().sum(1)
    largest = float(x.abs().max())
    whole = sums_of(x, label, squared, torch.arange(900), 1, largest)
    other = sums_of(x, label, squared, torch.randperm(900, generator=draw), pieces, largest)
    otherwise = torch.full((5, 3), 7.0, dtype=torch.float64)
    assert torch.equal(whole.means(otherwise), other.means(otherwise))
    assert (whole.inertia, whole.count_K.tolist()) == (other.inertia, other.count_K.tolist())
    means = torch.stack([x[label == k].double().mean(0) for k in range(4)] + [otherwise[0]])
    torch.testing.assert_close(whole.means(otherwise), means, rtol=1e-7, atol=1e-7 * scale)
    assert abs(whole.inertia / float(squared.double().sum()) - 1) < 1e-9
    torch.testing.assert_close(whole.inertia_K.sum(), torch.tensor(whole.inertia, dtype=torch.float64))


def test_nothing_but_zeros_is_zero():
    x = torch.zeros(4, 2)
    sums = sums_of(x, torch.zeros(4, dtype=torch.int64), torch.zeros(4), torch.arange(4), 1, 0.0)
    assert sums.inertia == 0
    assert sums.means(torch.ones(5, 2, dtype=torch.float64))[0].tolist() == [0, 0]
