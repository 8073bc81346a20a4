"""The cache: the same numbers, asked once, mapped from disk, whole or not there."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.contenders.pixels import Pixels
from aqqua.evaluate.feature_cache import FeatureCache
from aqqua.evaluate.features import Embedder, all_features
from aqqua.plan.view_config import ViewConfig


@dataclass
class Counted:
    """A contender that counts how often it is asked, and fails on one block when told to."""

    inner: Native
    asked: int = 0
    fails_at: int | None = None
    spoils: bool = False
    settings: str = ""

    @property
    def name(self):
        return self.inner.name

    @property
    def facts(self):
        return replace(self.inner.facts, settings=self.settings or self.inner.facts.settings)

    def __call__(self, dataset, number):
        self.asked += 1
        if number == self.fails_at:
            raise OSError("a disk failed")
        found = self.inner(dataset, number)
        return found * np.nan if self.spoils else found

    def patches(self, dataset, number):
        self.asked += 1
        if number == self.fails_at:
            raise OSError("a disk failed")
        tokens, offsets = self.inner.patches(dataset, number)
        return tokens * (1e6 if self.spoils else 1), offsets

    def flops(self, sizes):
        return self.inner.flops(sizes)


@pytest.fixture
def contender(backbone):
    return Counted(Native(Embedder(backbone, ViewConfig()), "runs/a"))


def test_asked_once_and_the_same(contender, dataset, tmp_path):
    cache, told = FeatureCache(tmp_path / "deep" / "cache"), []
    first = cache.features(contender, dataset, told.append)
    assert contender.asked == dataset.blocks == 4
    assert told == [16, 32, 48, 49]
    again = cache.features(contender, dataset)
    assert contender.asked == 4
    assert isinstance(again, np.memmap)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, all_features(contender.inner, dataset))
    np.testing.assert_array_equal(first, again)
    about = json.loads(next((tmp_path / "deep" / "cache").glob("*.json")).read_text())
    assert (about["contender"], about["rows"], about["facts"]["width"]) == ("runs/a", 49, 32)


def test_tokens_of_every_image(contender, dataset, tmp_path):
    cache, told = FeatureCache(tmp_path), []
    cache.tokens(contender, dataset, told.append)
    tokens = cache.tokens(contender, dataset)
    assert contender.asked == 4
    assert told == [16, 32, 48, 49]
    assert len(tokens) == 49
    assert tokens.table_ND.dtype == np.float16
    want, offsets = contender.inner.patches(dataset, 1)
    got, packed = tokens.pack(np.arange(16, 32))
    np.testing.assert_array_equal(packed, offsets)
    np.testing.assert_allclose(got, want, atol=2e-3)


def test_other_settings_are_other_files(contender, dataset, tmp_path):
    cache = FeatureCache(tmp_path)
    cache.features(contender, dataset)
    contender.settings = "pooled in another way"
    cache.features(contender, dataset)
    assert contender.asked == 8
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.parametrize("kind", ["features", "tokens"])
def test_a_failure_leaves_nothing(contender, dataset, tmp_path, kind):
    cache, contender.fails_at = FeatureCache(tmp_path), 2
    with pytest.raises(OSError, match="a disk failed"):
        getattr(cache, kind)(contender, dataset)
    assert list(tmp_path.iterdir()) == []
    contender.fails_at = None
    assert len(getattr(cache, kind)(contender, dataset)) == 49


@pytest.mark.parametrize("kind", ["features", "tokens"])
def test_no_number_that_is_none(contender, dataset, tmp_path, kind):
    contender.spoils = True
    with pytest.raises(ValueError, match=r"must be finite and within float(16|32), got others after row 0"):
        getattr(FeatureCache(tmp_path), kind)(contender, dataset)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_what_its_name_says(contender, dataset, tmp_path):
    cache = FeatureCache(tmp_path)
    cache.features(contender, dataset)
    np.save(next(tmp_path.glob("*.npy")), np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"must hold float32 \[49, 32\], got float32 \[3, 3\]; remove it"):
        cache.features(contender, dataset)


def test_a_baseline_has_no_tokens(dataset, tmp_path):
    with pytest.raises(ValueError, match="must say something of each patch, got pixels"):
        FeatureCache(tmp_path).tokens(Pixels(), dataset)
