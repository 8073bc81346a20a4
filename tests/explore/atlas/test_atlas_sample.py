"""The stratified sample: sizes, rare strata, chunks and seeds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aqqua.explore.atlas.sample import choose_images, quotas, strata_of, stratified
from aqqua.store.read import Dataset


def chunked(strata, length=7):
    return lambda: (np.array(strata[i : i + length], np.int64) for i in range(0, len(strata), length))


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), st.data())
def test_quotas_add_up_and_keep_rare_strata(counts, data):
    count_S = np.array(counts)
    if not count_S.sum():
        return
    most = data.draw(st.integers(1, int(count_S.sum())))
    quota_S = quotas(count_S, most)
    assert quota_S.sum() == most
    assert (quota_S >= 0).all()
    assert (quota_S <= count_S).all()
    if most >= (count_S > 0).sum():
        assert (quota_S[count_S > 0] >= 1).all()


def test_quotas_by_hand():
    # One each, then 107 by the roots of 9,999 and 99 (1 and 10.05): 107 · 99.995 / (99.995 + 9.95) = 97.3.
    assert quotas(np.array([10_000, 100, 1]), 110).tolist() == [98, 11, 1]


@given(st.lists(st.integers(0, 4), min_size=30, max_size=300), st.integers(1, 29), st.integers(0, 3))
def test_a_sample_holds_the_quota_of_each_stratum(strata, most, seed):
    rows = stratified(chunked(strata), most, seed, "points")
    assert len(rows) == most
    assert (np.diff(rows) > 0).all()
    counts = np.bincount(strata)
    assert np.array_equal(np.bincount(np.array(strata)[rows], minlength=len(counts)), quotas(counts, most))


def test_chunks_do_not_matter_but_seeds_and_purposes_do():
    strata = np.random.default_rng(0).integers(0, 3, 500).tolist()
    rows = stratified(chunked(strata), 50, 1, "points")
    assert np.array_equal(rows, stratified(chunked(strata, 500), 50, 1, "points"))
    assert not np.array_equal(rows, stratified(chunked(strata), 50, 2, "points"))
    assert not np.array_equal(rows, stratified(chunked(strata), 50, 1, "landmarks"))


def test_the_second_pass_keeps_little_more_than_the_sample():
    from aqqua.explore.atlas.sample import SPARE, _below

    strata = np.zeros(100_000, np.int64)
    bar = np.array([1000 + SPARE * 1000**0.5 + SPARE**2])
    kept = _below(chunked(strata, 512)(), bar, 100_000, 0, 5)[0]
    assert 1000 <= len(kept) < 1300


def test_all_rows_where_there_are_no_more():
    assert stratified(chunked([0, 1, 1]), 3, 0, "points").tolist() == [0, 1, 2]


def test_rare_classes_of_a_dataset_stay(sample_dataset):
    dataset = Dataset.open(sample_dataset)
    strata = np.concatenate(list(strata_of(dataset)()))
    kinds = len(np.unique(strata))
    rows = choose_images(dataset, kinds + 5, 0)
    assert len(rows) == kinds + 5 < dataset.rows
    assert len(np.unique(strata[rows])) == kinds
