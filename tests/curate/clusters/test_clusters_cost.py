"""The cost of clusters: numbers worked out by hand."""

import pytest
from pydantic import ValidationError

from aqqua.curate.clusters.cost import ClustersCost


def test_small_numbers_by_hand():
    cost = ClustersCost(
        images=1000, width=10, clusters=5, instruments=2, sampled=100, iterations=9, gpu_peak_tflop_s=1e-9,
        gpu_share=0.5, core_gflop_s=1e-7, cores=4, read_gb_s=1e-6,
    )  # fmt: skip
    assert cost.assign_flop == 100_000  # 2 · 1000 · 10 · 5
    assert cost.train_flop == 200_000  # 2 · 200 · 10 · 5 · 10
    assert cost.read_bytes == 24_000  # (1000 + 200) · 10 · 2
    assert cost.scratch_bytes == 2000
    assert cost.gpu_hours == pytest.approx(300_000 / 500 / 3600)
    assert cost.core_hours == pytest.approx(300_000 / 100 / 3600)
    assert cost.read_hours == pytest.approx(24 / 3600)


def test_three_billion_images():
    cost = ClustersCost()
    assert cost.assign_flop == pytest.approx(2.304e17)
    assert cost.train_flop == pytest.approx(7.8336e16)
    assert cost.read_bytes == pytest.approx(2.319e12, rel=1e-3)
    assert cost.gpu_hours == pytest.approx(3.08736e17 / 40.2e12 / 3600)
    assert "2.3e+17 FLOP" in "\n".join(cost.lines())


def test_a_sample_is_no_more_than_the_images():
    cost = ClustersCost(images=10, sampled=100, instruments=1, width=1, clusters=1, iterations=1)
    assert (cost.train_flop, cost.scratch_bytes, cost.read_bytes) == (40, 20, 40)


def test_shares_beyond_one_are_refused():
    with pytest.raises(ValidationError):
        ClustersCost(gpu_share=1.1)
