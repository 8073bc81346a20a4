"""What pretraining knew is read from what `aqqua curate` writes, without the pretraining set."""

import json
import shutil

import pytest
from made_suite import column

from aqqua.curate.copies.contamination import ContaminationConfig, EvaluationSet, write_contamination
from aqqua.curate.images.signatures import write_signatures
from aqqua.evaluate.suites.contaminated import contaminated
from aqqua.evaluate.suites.images import read_images


@pytest.fixture
def written(hold, tmp_path):
    """A pretraining set that holds pictures 3 and 4 of a test set, and the folder that says so."""
    train = hold("train", [{"content": n} for n in (3, 4, 101, 102, 103)])
    test = hold("test", [{"content": n} for n in (*range(8), 3)])
    signed = {one.path: write_signatures(one, tmp_path / f"{one.path.name}-signed") for one in (train, test)}
    evaluation = EvaluationSet(test, signed[test.path])
    out = tmp_path / "found"
    write_contamination(train, signed[train.path], evaluation, out, ContaminationConfig(near=False))
    shutil.rmtree(train.path)
    return test, out


def known(suite_of, dataset, sources):
    suite = suite_of(tiers={"sample": {}})
    images = read_images(suite, {"first": dataset})
    mask = contaminated(images, suite, {"first": dataset}, sources)
    return sorted(column(dataset, "image_id")[mask])


def test_the_folder_of_a_curation(written, suite_of):
    dataset, folder = written
    # o8 is the same picture as o3: the folder names one of the two.
    assert known(suite_of, dataset, {"first": [folder]}) == ["m/o3", "m/o4", "m/o8"]
    assert known(suite_of, dataset, {"first": []}) == []


def test_a_list_of_ids(written, suite_of, tmp_path):
    dataset, folder = written
    path = tmp_path / "ids.txt"
    path.write_text("m/o1\n\n m/o2 \n")
    assert known(suite_of, dataset, {"first": [path]}) == ["m/o1", "m/o2"]
    assert len(known(suite_of, dataset, {"first": [path, folder]})) == 5
    path.write_text("m/o11\n")
    with pytest.raises(ValueError, match="must hold image ids of first, got m/o11; the nearest is m/o1"):
        known(suite_of, dataset, {"first": [path]})


def test_what_is_no_contamination_of_this_set(written, suite_of, hold, tmp_path):
    dataset, folder = written
    with pytest.raises(ValueError, match="contamination must be of one of first, got second"):
        known(suite_of, dataset, {"second": [folder]})
    with pytest.raises(ValueError, match=r"must be a folder that aqqua curate wrote, or a \.txt file"):
        known(suite_of, dataset, {"first": [tmp_path]})
    with pytest.raises(ValueError, match="must be contamination of first, got that of another data set"):
        known(suite_of, hold("other", [{}]), {"first": [folder]})
    signed = tmp_path / "test-signed"
    with pytest.raises(ValueError, match="must be contamination of first, got signatures"):
        known(suite_of, dataset, {"first": [signed]})
    manifest = json.loads((folder / "_columns.json").read_text())
    (folder / "_columns.json").write_text(json.dumps({**manifest, "rows": 99}))
    with pytest.raises(ValueError, match="got a changed manifest"):
        known(suite_of, dataset, {"first": [folder]})
    (folder / "_columns.json").write_text("{}")
    with pytest.raises(ValueError, match="must be sound, got KeyError"):
        known(suite_of, dataset, {"first": [folder]})
