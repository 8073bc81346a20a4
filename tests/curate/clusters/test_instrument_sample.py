"""The sample of an instrument: fair, exactly as many as wanted, the same on any number of ranks."""

import numpy as np
import pytest
from planted import WIDTH, a_dataset, embedded

from aqqua.curate.clusters import sample
from aqqua.curate.clusters.sample import SampledVectors, count_instruments, plan_sample
from aqqua.curate.clusters.vectors import EmbeddingVectors
from aqqua.train.ranks import Place, Ranks

NAMES = [("IFCB", "ISIIS", "UVP6")[(i % 10 > 3) + (i == 77)] for i in range(200)]


@pytest.fixture
def source(tmp_path) -> EmbeddingVectors:
    return EmbeddingVectors(
        embedded(a_dataset(tmp_path / "d", NAMES), tmp_path / "e", lambda i: np.full(WIDTH, i))
    )


def test_images_are_counted_block_by_block(source):
    names, count_BG = count_instruments(source.dataset, Ranks())
    assert names == ["IFCB", "ISIIS", "UVP6"]
    assert count_BG.shape == (50, 3)
    assert count_BG.sum(0).tolist() == [NAMES.count(name) for name in names]
    assert (count_BG.sum(1) == 4).all()


@pytest.mark.parametrize("wanted", [1, 30, 10_000])
def test_a_sample_is_of_its_instrument_and_has_as_many_as_wanted(source, tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(sample, "CHUNK_ROWS", 8)
    names, count_BG = count_instruments(source.dataset, Ranks())
    plan = plan_sample("ISIIS", count_BG[:, names.index("ISIIS")], wanted, 0, 1)
    assert plan.rows == min(wanted, NAMES.count("ISIIS"))
    vectors = SampledVectors(plan, source, tmp_path / "v", Ranks())
    found = np.concatenate([vectors.chunk(c)[:, 0] for c in range(vectors.chunks)]).astype(int)
    assert len(set(found.tolist())) == plan.rows
    assert {NAMES[i] for i in found} == {"ISIIS"}
    # Each of two ranks has just its own chunks of the same sample.
    for rank in (0, 1):
        half = SampledVectors(plan, source, tmp_path / f"v{rank}", Ranks(Place(rank, 2)))
        for chunk in range(rank, half.chunks, 2):
            np.testing.assert_array_equal(half.chunk(chunk), vectors.chunk(chunk))
            assert half.first_row(chunk) == vectors.first_row(chunk)
        if half.chunks > 1:
            with pytest.raises(KeyError):
                half.chunk(1 - rank)


def test_another_seed_samples_other_blocks():
    count_B = np.full(1000, 3, np.int32)
    first, second = (plan_sample("a", count_B, 30, seed, 1).chunks for seed in (0, 1))
    assert first != second
    assert len(first[0]) == 10
