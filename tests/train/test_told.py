"""What guides are told of a pack: by hand, view by view, from a dataset's own columns."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from drawn_images import blob, make_dataset

from aqqua.objective.guides import GuideConfig
from aqqua.objective.ssl import ObjectiveConfig
from aqqua.store.read import Dataset
from aqqua.train.batch import Shape
from aqqua.train.data import Feeder
from aqqua.train.told import columns_of, known_of, told_of, with_names

ALL = (
    GuideConfig(field="um_per_px"),
    GuideConfig(field="instrument", names=("ISIIS", "IFCB")),
    GuideConfig(field="depth_m"),
    GuideConfig(field="region"),
)


@pytest.fixture
def step(make_config, tmp_path):
    config = make_config(tmp_path)
    dataset = Dataset.open(config.data.path)
    shape = Shape.of(config.model, config.views, torch.float32, ALL)
    feeder = Feeder(dataset, config.data, config.views, config.masks, shape, seed=3)
    yield feeder, feeder.step(feeder.start(), 0)
    feeder.close()


def made_tables(depth_m, lat, lon):
    """The same facts of every image of every block."""
    return lambda _block: pa.table(
        {"depth_m": pa.array([depth_m] * 64, pa.float32()), "lat": [lat] * 64, "lon": [lon] * 64}
    )


def test_facts_by_hand(step):
    _, data = step
    pack = data.packs[0]
    told = told_of(pack, ALL, made_tables(127.0, 30.0, 90.0))
    names = [pack.sizes.instrument_names[code] for code in pack.sizes.instrument]
    assert set(names) == {"IFCB", "ISIIS"}
    for row in range(2 * pack.n_images):
        image, um = row % pack.n_images, float(pack.um_per_px_V[row])
        if names[image] == "ISIIS":  # has no scale here
            assert np.isnan(told[0, row])
        else:
            assert told[0, row] == pytest.approx((np.log2(um) + 3) / 13, abs=1e-6)
        assert told[1, row] == {"ISIIS": 0, "IFCB": 1}[names[image]]
    assert told[2] == pytest.approx(7 / 13)  # log2(1 + 127) of 13
    assert pytest.approx(np.array([[0.5, (1 + 0.75**0.5) / 2, 0.75]] * 2 * pack.n_images)) == told[3:].T
    views = 2 * pack.n_images
    assert known_of(told, ALL) == (2 * names.count("IFCB"), views, views, views)


def test_views_of_an_image_have_scales_of_their_own(step):
    _, data = step
    pack = data.packs[0]
    told = told_of(pack, ALL[:1], None)[0].reshape(2, -1)
    known = ~np.isnan(told[0])
    assert (np.isnan(told[0]) == np.isnan(told[1])).all()
    assert (told[0] != told[1])[known].any()


def test_unknown_is_nan(step):
    _, data = step
    pack = data.packs[0]
    told = told_of(pack, ALL, made_tables(None, 10.0, None))
    assert np.isnan(told[2:]).all()
    assert known_of(told, ALL)[2:] == (0, 0)
    others = (GuideConfig(field="instrument", names=("UVP5", "IFCB")),)
    codes = told_of(pack, others, None)[0]
    assert set(codes[~np.isnan(codes)]) == {1.0}
    assert np.isnan(codes).any()


def test_bands_in_the_place_of_a_number(step):
    _, data = step
    bands = (GuideConfig(field="depth_m", edges=(50, 200, 1000)),)
    depths = {0.0: 0, 49.9: 0, 50.0: 1, 999.0: 2, 4000.0: 3, None: None}
    for depth, band in depths.items():
        told = told_of(data.packs[0], bands, made_tables(depth, 0.0, 0.0))[0]
        assert np.isnan(told).all() if band is None else (told == band).all()


def test_a_pack_reads_its_own_rows(step):
    """Depth of an image = a number of its block and row; each view has that of its image."""
    _, data = step
    pack = data.packs[1]
    tables = lambda block: pa.table({"depth_m": [float(100 * block + row) for row in range(64)]})  # noqa: E731
    told = told_of(pack, ALL[2:3], tables)[0]
    want = np.log2(1 + 100 * np.tile(pack.block_I, 2) + np.tile(pack.row_I, 2)) / 13
    assert told == pytest.approx(want, abs=1e-6)
    assert columns_of(ALL) == ("depth_m", "lat", "lon")
    batch = data.batches[1]  # by the feeder itself: the blobs have neither depth nor place
    assert batch.told_CB.shape == (6, 2 * pack.n_images)
    assert batch.known_Q[2:] == (0, 0)
    assert data.known == [a + b for a, b in zip(data.batches[0].known_Q, batch.known_Q, strict=True)]


def test_instruments_are_those_of_the_dataset(sample_dataset):
    asked = ObjectiveConfig(guides=[{"field": "instrument"}, {"field": "um_per_px"}])
    named = with_names(asked, Dataset.open(sample_dataset))
    found = Dataset.open(sample_dataset).table(["instrument"])["instrument"].to_pylist()
    assert named.guides[0].names == tuple(sorted(set(found) - {"unknown"}))
    assert named.guides[1] == asked.guides[1]
    assert with_names(named, Dataset.open(sample_dataset)) == named  # those given stay


def test_a_guide_of_what_no_image_knows_is_refused(dataset, tmp_path):
    asked = ObjectiveConfig(guides=[{"field": "instrument", "names": ["IFBC", "ISIIS"]}])
    with pytest.raises(ValueError, match=r"among IFCB, ISIIS, got IFBC; did you mean IFCB\?"):
        with_names(asked, Dataset.open(dataset))
    unscaled = make_dataset(tmp_path / "unscaled", [blob(1)])  # its first image has no scale
    for field in ("um_per_px", "depth_m", "region"):
        with pytest.raises(ValueError, match=rf"{field} must be known of some images, got none"):
            with_names(ObjectiveConfig(guides=[{"field": field}]), Dataset.open(unscaled.path))


def test_one_instrument_is_nothing_to_tell_apart(dataset):
    asked = ObjectiveConfig(guides=[{"field": "instrument", "names": ["IFCB"]}])
    with pytest.raises(ValueError, match=r"needs two of them, got IFCB .* leave it out"):
        with_names(asked, Dataset.open(dataset))
