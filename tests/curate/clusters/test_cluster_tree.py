"""The table of the tree: what is written is read, and damage is seen."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aqqua.curate.clusters.hierarchy import Level
from aqqua.curate.clusters.tree import NO_PARENT, TREE, Forest, facts_of, read_tree, write_tree


def level(*parents: int) -> Level:
    return Level(torch.randn(len(parents), 3), torch.tensor(parents), 0.0, True)


def written(folder):
    forest = Forest(["IFCB", "UVP6"], [[level(0, 1, 0), level(0, 0)], [level(0), level(0)]])
    write_tree(folder / TREE, forest, np.array([5, 7, 0, 2]), 3)
    facts = {"tree": facts_of(folder / TREE), "clusters": [4, 3]}
    return forest, SimpleNamespace(path=folder, facts=facts)


def test_what_is_written_is_read(tmp_path):
    forest, clusters = written(tmp_path)
    first, second = read_tree(clusters)
    assert first.parent_K.tolist() == [0, 1, 0, 2]
    assert second.parent_K.tolist() == [NO_PARENT] * 3
    assert (first.images_K.tolist(), second.images_K.tolist()) == ([5, 7, 0, 2], [5, 7, 2])
    assert first.instruments == ("IFCB", "IFCB", "IFCB", "UVP6")
    assert second.instruments == ("IFCB", "IFCB", "UVP6")
    np.testing.assert_array_equal(first.centroid_KD[:3], forest.levels[0][0].centroids_KD)
    np.testing.assert_array_equal(second.centroid_KD[2:], forest.levels[1][1].centroids_KD)


def test_a_changed_byte_is_seen(tmp_path):
    _, clusters = written(tmp_path)
    data = bytearray((tmp_path / TREE).read_bytes())
    data[30] ^= 1
    (tmp_path / TREE).write_bytes(data)
    with pytest.raises(ValueError, match="must be the file that was written"):
        read_tree(clusters)
