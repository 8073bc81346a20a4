"""Duplicates: planted ones are found, others are not, and one of each set stays."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from held_pictures import CHANGES, Held, column, hold, organism, real_uvp6

from aqqua.curate.copies import cells
from aqqua.curate.copies.duplicates import DuplicateConfig, write_duplicates
from aqqua.curate.images.signatures import write_signatures
from aqqua.store.columns import Columns, write_columns
from aqqua.store.read import Dataset


def found(dataset: Dataset, name: str = "found", **config: object) -> Columns:
    scratch = dataset.path.with_name(f"{dataset.path.name}-{name}")
    signed = write_signatures(dataset, scratch / "signatures")
    return write_duplicates(dataset, signed, scratch / "duplicates", DuplicateConfig(**config))


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_of_organisms_are_found_and_nothing_else(tmp_path, change):
    pictures = [organism(n) for n in range(60)]
    copies = [np.ascontiguousarray(CHANGES[change](p)) for p in pictures[:30]]
    of = column(found(hold(tmp_path / "data", pictures + copies)), "duplicate_of")
    for i in range(30):
        pair = {f"image{i}", f"image{60 + i}"}
        assert {of[name] for name in pair} - {None} <= {f"held/{name}" for name in pair}, i
        assert sum(of[name] is None for name in pair) == 1, i
    assert sum(one is not None for one in of.values()) == 30


@pytest.mark.parametrize("kind", ["colour", "16 bits"])
def test_copies_in_colour_and_16_bits_are_found(tmp_path, kind):
    grey = [organism(n) for n in range(10)]
    if kind == "colour":
        pictures = [np.stack([p, p // 2, p // 3], axis=2) for p in grey]
    else:
        pictures = [p.astype(np.uint16) * 97 for p in grey]
    copies = [np.ascontiguousarray(np.rot90(p[::-1])) for p in pictures]
    kinds = Counter(column(found(hold(tmp_path / "data", pictures + copies)), "duplicate_kind").values())
    assert kinds == {None: 10, "near": 10}


def test_equal_images_are_found_across_groups_and_labels_near_ones_within_a_group(tmp_path):
    one, other = organism(1), organism(2)
    facts = [
        {"group": "a", "label": "x", "label_status": "folder"},
        {"group": "b", "label": "y", "label_status": "folder"},
        {"group": "c"},
        {"group": "d"},
        {"group": "d"},
    ]
    dataset = hold(tmp_path / "data", [one, one, other, other[::-1], other[:, ::-1]], facts)
    kinds = column(found(dataset), "duplicate_kind")
    assert Counter([kinds["image0"], kinds["image1"]]) == {None: 1, "exact": 1}
    assert kinds["image2"] is None
    assert Counter([kinds["image3"], kinds["image4"]]) == {None: 1, "near": 1}


def test_a_sample_is_looked_through_as_a_whole_on_request(tmp_path):
    one = organism(1)
    facts = [{"group": f"frame{i}", "sample": "cast"} for i in range(2)]
    dataset = hold(tmp_path / "data", [one, one[::-1]], facts)
    assert set(column(found(dataset), "duplicate_kind").values()) == {None}
    within = found(dataset, "sample", within="sample")
    assert Counter(column(within, "duplicate_kind").values()) == {None: 1, "near": 1}


def test_instruments_are_never_compared_for_near_duplicates(tmp_path):
    facts = [{"instrument": "UVP6"}, {"instrument": "IFCB"}]
    dataset = hold(tmp_path / "data", [organism(1), organism(1)[::-1]], facts)
    assert set(column(found(dataset), "duplicate_kind").values()) == {None}


def test_the_validated_one_stays_then_the_largest(tmp_path):
    a, b = organism(1), organism(2)
    facts = [{}, {"label": "x", "label_status": "validated"}, {}, {}]
    dataset = hold(tmp_path / "data", [a, a[1:, 1:], b, b[1:, 1:]], facts)
    of = column(found(dataset), "duplicate_of")
    assert of == {"image0": "held/image1", "image1": None, "image2": None, "image3": "held/image2"}


def test_chains_end_in_one_kept_image(tmp_path):
    a = organism(1)
    pictures = [a, a[::-1], np.rot90(a), a.copy(), a[1:, 1:]]
    of = column(found(hold(tmp_path / "data", [np.ascontiguousarray(p) for p in pictures])), "duplicate_of")
    assert sum(one is None for one in of.values()) == 1
    (kept,) = {one for one in of.values() if one is not None}
    assert of[str(kept).split("/")[1]] is None


@pytest.mark.parametrize(
    "pictures",
    [
        [np.zeros((1, 1), np.uint8)],
        [np.full((9, 9), v, np.uint8) for v in range(20)],
        [np.arange(4, dtype=np.uint8).reshape(2, 2) + v for v in range(20)],
    ],
    ids=["one pixel", "constants", "tiny"],
)
def test_pictures_that_say_nothing_are_no_near_duplicates(tmp_path, pictures):
    assert set(column(found(hold(tmp_path / "data", pictures)), "duplicate_kind").values()) == {None}


def test_of_a_thousand_equal_images_one_stays(tmp_path):
    facts = [{"object_id": f"image{i}", "group": "g"} for i in range(1000)]
    dataset = hold(tmp_path / "data", [organism(1, 12)] * 1000, facts)
    assert Counter(column(found(dataset), "duplicate_kind").values()) == {None: 1, "exact": 999}


def test_noise_of_the_camera_alone_is_no_picture(tmp_path):
    draw = np.random.default_rng(0)
    pictures = [np.clip(draw.normal(100, 3, (24, 24)), 0, 255).astype(np.uint8) for _ in range(150)]
    assert set(column(found(hold(tmp_path / "data", pictures)), "duplicate_kind").values()) == {None}


def test_result_depends_neither_on_the_shuffle_nor_on_buckets_and_tiles(tmp_path, monkeypatch):
    pictures = [organism(n) for n in range(40)]
    pictures += [
        np.ascontiguousarray(change(p))
        for p, change in zip(pictures[:28], [*CHANGES.values()] * 4, strict=True)
    ]
    one = column(found(hold(tmp_path / "one", pictures)), "duplicate_of")
    monkeypatch.setattr(cells, "TILE", 7)
    monkeypatch.setattr(cells, "BUCKET_BYTES", 4000)
    monkeypatch.setattr(cells, "BUFFER_BYTES", 2000)
    other = column(found(hold(tmp_path / "two", pictures, seed=5, block_rows=9)), "duplicate_of")
    assert one == other
    assert sum(v is not None for v in one.values()) == 28


def test_the_columns_say_how_they_were_made(tmp_path):
    dataset = hold(tmp_path / "data", [organism(1)])
    signed = write_signatures(dataset, tmp_path / "signed")
    config = DuplicateConfig(within="sample")
    facts = write_duplicates(dataset, signed, tmp_path / "out", config, threads=2).facts
    assert facts["made_from"] == {"signatures": signed.sha256}
    assert DuplicateConfig.model_validate(facts["config"]) == config


def test_embeddings_join_images_of_a_group(tmp_path):
    pictures = [organism(n) for n in range(6)]
    facts = [{"group": "a"}, {"group": "a"}, {"group": "b"}, {"group": "b"}, {"group": "c"}, {"group": "d"}]
    dataset = hold(tmp_path / "data", pictures, facts)
    vectors = {0: [1, 0.01], 1: [2, 0.0], 2: [0, 1], 3: [1, 0], 4: [1, 0], 5: [0, 0]}
    names = [i.split("image")[1] for i in dataset.table(["image_id"])["image_id"].to_pylist()]
    flat = pa.array(np.array([vectors[int(n)] for n in names], np.float16).ravel())
    kind = pa.list_(pa.float16(), 2)
    table = pa.table({"embedding": pa.FixedSizeListArray.from_arrays(flat, type=kind)})
    with write_columns(
        tmp_path / "emb", dataset, "embeddings", [pa.field("embedding", kind, False)], {}, "test"
    ) as writer:
        writer.write_part(0, lambda _: table)
    embeddings = Columns.open(tmp_path / "emb", dataset, "embeddings")
    signed = write_signatures(dataset, tmp_path / "signed")
    out = write_duplicates(dataset, signed, tmp_path / "out", DuplicateConfig(cosine=0.99), embeddings)
    kinds = column(out, "duplicate_kind")
    assert Counter([kinds["image0"], kinds["image1"]]) == {None: 1, "embedding": 1}
    assert {kinds[f"image{i}"] for i in range(2, 6)} == {None}
    with pytest.raises(ValueError, match="embeddings must be given for cosine"):
        write_duplicates(dataset, signed, tmp_path / "none", DuplicateConfig(cosine=0.99))


def test_darkspheres_of_uvp6_are_the_copepods(real_data, tmp_path):
    out = found(real_uvp6(real_data, tmp_path / "uvp6"))
    assert out.facts["images"] == {"exact": 57, "near": 0, "embedding": 0}
    of = column(out, "duplicate_of")
    for name, other in of.items():
        if other is not None:
            assert {name.split("__")[0], str(other).split("/", 1)[1].split("__")[0]} == {
                "darksphere",
                "Copepoda",
            }


def test_copies_of_real_vignettes_are_found_and_no_real_pair_is(real_data, tmp_path):
    real = real_uvp6(real_data, tmp_path / "uvp6")
    block = real.block(0)
    contents = real.table(["content"], [0])["content"].to_pylist()
    distinct = [block.pixels(i) for i in range(len(block)) if contents.index(contents[i]) == i][:350]
    changes = [*CHANGES.values()]
    copies = [np.ascontiguousarray(changes[i % len(changes)](p)) for i, p in enumerate(distinct)]
    of = column(found(hold(tmp_path / "data", distinct + copies)), "duplicate_of")
    hit = 0
    for i in range(len(distinct)):
        a, b = of[f"image{i}"], of[f"image{i + len(distinct)}"]
        hit += (a == f"held/image{i + len(distinct)}") or (b == f"held/image{i}")
    assert hit >= 0.99 * len(distinct)
    assert sum(v is not None for v in of.values()) == hit


def test_scratch_files_are_gone_and_pixels_are_held_on_disk(tmp_path):
    dataset = hold(tmp_path / "data", [Held(organism(1)).pixels, organism(1)[::-1]])
    out = found(dataset)
    assert sorted(p.name for p in out.path.parent.iterdir()) == ["duplicates", "signatures"]
