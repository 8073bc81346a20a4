"""A page shows what training does: the same views, masks and pixels, to the last bit."""

import numpy as np
import pytest
import torch

from aqqua.explore.shown import joined, show
from aqqua.plan.pack import hide_scale
from aqqua.render.reference import patchify
from aqqua.store.read import Dataset
from aqqua.store.split import held_out
from aqqua.train.batch import Shape
from aqqua.train.data import Feeder
from aqqua.train.settings import PretrainConfig


def config_of(dataset, **data: object) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "run": "none",
            "seed": 3,
            "data": {"path": dataset, "lanes": 1, "window_blocks": 1, "pack_tokens": 3000, **data},
            "views": {"locals": 2, "max_tokens": [64, 16]},
            "model": {"patch_px": 12, "size": "tiny"},
            "train": {"images": 1, "device": "cpu"},
        }
    )


def test_views_masks_and_pixels_are_those_of_training(sample_dataset):
    config = config_of(sample_dataset)
    dataset = Dataset.open(sample_dataset)
    shown = show(dataset, config, dataset.rows)
    assert (len(shown.images), shown.renderer) == (150, "native")

    ids = dataset.table(["image_id", "label"]).to_pylist()
    assert [(image.image_id, image.label) for image in shown.images] == [tuple(row.values()) for row in ids]
    shape = Shape.of(config.model, config.views, torch.float32)
    feeder = Feeder(dataset, config.data, config.views, config.masks, shape, seed=3)
    states, seen, masked = feeder.start(), set(), 0
    while len(seen) < dataset.rows:
        data = feeder.step(states, 0)
        states, (pack,), (batch,) = data.states, data.packs, data.batches
        hidden_V = hide_scale(pack, 3, config.views.hide_scale_odds)
        for v in np.flatnonzero(pack.visit_I[pack.image_V] == 0).tolist():
            image = shown.images[int(pack.row_I[pack.image_V[v]])]
            view = image.views[v // pack.n_images]
            rows = slice(*pack.patch_offsets_V1[v : v + 2].tolist())
            got = patchify(torch.from_numpy(view.values_hwC).permute(2, 0, 1), 12)
            assert np.array_equal(got.numpy(), batch.patches_NF[rows].numpy())
            mask = pack.mask_N[rows]
            assert np.array_equal(mask, np.zeros_like(mask) if view.mask is None else view.mask.ravel())
            assert view.parameters.scale_hidden == hidden_V[v]
            masked += view.mask is not None
        seen |= set(pack.row_I[pack.visit_I == 0].tolist())
    feeder.reader.close()
    assert masked > 100


def test_a_view_does_not_depend_on_the_images_beside_it(sample_dataset):
    config, dataset = config_of(sample_dataset), Dataset.open(sample_dataset)
    few, many = show(dataset, config, 2), show(dataset, config, 9)
    for image, same in zip(few.images, many.images, strict=False):
        assert image.image_id == same.image_id
        assert np.array_equal(image.pixels, same.pixels)
        for view, again in zip(image.views, same.views, strict=True):
            assert np.array_equal(view.values_hwC, again.values_hwC)


def test_another_visit_or_seed_is_another_look(sample_dataset):
    config, dataset = config_of(sample_dataset), Dataset.open(sample_dataset)
    first = show(dataset, config, 1).images[0].views[0].parameters.angle_deg
    assert show(dataset, config, 1, visit=1).images[0].views[0].parameters.angle_deg != first
    reseeded = config.model_copy(update={"seed": 4})
    assert show(dataset, reseeded, 1).images[0].views[0].parameters.angle_deg != first


def test_held_out_images_are_not_shown(sample_dataset):
    dataset = Dataset.open(sample_dataset)
    kept = ~held_out(dataset, 0, 0.5)
    ids = dataset.table(["image_id"])["image_id"].to_numpy(zero_copy_only=False)[kept]
    config = config_of(sample_dataset, holdout=0.5)
    assert 10 < len(ids) < 140
    assert [image.image_id for image in show(dataset, config, len(ids)).images] == ids.tolist()
    with pytest.raises(ValueError, match=f"at most the dataset's {len(ids)} training images, got 150; "):
        show(dataset, config, 150)


@pytest.mark.parametrize(("count", "visit"), [(0, 0), (201, 0), (1, -1), (1, 1_000_000)])
def test_what_cannot_be_shown_is_refused(count, visit, sample_dataset):
    with pytest.raises(ValueError, match=r"^plan: --(show|visit) must be .*, got (0|201|-1|1000000); "):
        show(Dataset.open(sample_dataset), config_of(sample_dataset), count, visit)


def test_patch_rows_are_put_back_together():
    values = np.arange(3 * 6 * 8, dtype=np.float32).reshape(3, 6, 8)
    rows = patchify(torch.from_numpy(values), 2).numpy()
    assert np.array_equal(joined(rows, 3, 4, 2, 3), values.transpose(1, 2, 0))
