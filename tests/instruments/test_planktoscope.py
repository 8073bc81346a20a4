"""PlanktoScope: frames are refused, segmented objects come through the EcoTaxa reader."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from aqqua.instruments import ecotaxa, planktoscope
from aqqua.instruments.record import ReadOptions, Record, Rejected
from aqqua.instruments.tree import open_tree

METADATA = json.dumps({"acq_instrument": "PlanktoScope v2.6", "process_pixel": 0.75, "acq_nb_frame": 2})


def jpg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 210, 190)).save(buffer, "JPEG")
    return buffer.getvalue()


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def refusals(path: Path) -> dict[str, str]:
    tree = open_tree(path)
    found = list(planktoscope.read(tree, planktoscope.claim(tree), ReadOptions()))
    assert all(isinstance(f, Rejected) for f in found)
    return {f.source: f.reason for f in found if isinstance(f, Rejected)}


def test_frames_beside_their_metadata_are_not_organisms(tmp_path):
    write(
        tmp_path,
        {
            "img/acq/metadata.json": METADATA,
            "img/acq/10_51_22.jpg": jpg(2028, 1520),
            "img/acq/thumb.jpg": jpg(120, 90),
            "img/acq/broken.jpg": b"not a picture",
            "img/acq/empty.jpg": b"",
            "img/other/organism.jpg": jpg(90, 90),
        },
    )
    assert refusals(tmp_path) == {
        "img/acq/10_51_22.jpg": "not_an_organism",
        "img/acq/thumb.jpg": "unlisted_image",
        "img/acq/broken.jpg": "unreadable_image",
        "img/acq/empty.jpg": "unreadable_image",
    }


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "{",
        "[" * 100_000,
        "[1, 2]",
        json.dumps({"acq_instrument": "FlowCam"}),
        json.dumps({"acq_instrument": None}),
        METADATA[:-1] + ', "fill": "' + "x" * planktoscope.MAX_METADATA_BYTES + '"}',
        b"\xff\xfe\x00",
    ],
)
def test_other_or_hostile_metadata_claims_nothing(tmp_path, metadata):
    write(tmp_path, {"metadata.json": metadata, "frame.jpg": jpg(1600, 1600)})
    assert planktoscope.claim(open_tree(tmp_path)) == frozenset()


def test_a_file_that_only_ends_like_it_is_not_metadata(tmp_path):
    write(tmp_path, {"my_metadata.json": METADATA, "frame.jpg": jpg(1600, 1600)})
    assert planktoscope.claim(open_tree(tmp_path)) == frozenset()


def test_segmented_objects_are_left_to_the_table_that_lists_them(tmp_path):
    table = "img_file_name\tobject_id\tacq_instrument\tprocess_pixel\tprocess_pixel_size\n"
    row = "o1.jpg\to1\tPlanktoScope v2.6\t0.73\t1.34\n"
    write(tmp_path, {"Ecotaxa_p_a.tsv": table + row, "o1.jpg": jpg(80, 60), "metadata.json": METADATA})
    tree = open_tree(tmp_path)
    assert planktoscope.claim(tree) == {"metadata.json"}
    found = list(ecotaxa.read(tree, ecotaxa.claim(tree), ReadOptions()))
    assert [(f.instrument, f.um_per_px) for f in found if isinstance(f, Record)] == [("PlanktoScope", 1.34)]
    assert len(found) == 1


def test_a_real_frame_is_recognised_by_its_size(real_data, tmp_path):
    frame = real_data / "planktoscope" / "DiatomaceousEarth-10x-10.jpg"
    assert planktoscope.claim(open_tree(frame.parent)) == frozenset()  # bare: nothing says what it is
    write(tmp_path, {"frame.jpg": frame.read_bytes(), "metadata.json": METADATA})
    assert refusals(tmp_path) == {"frame.jpg": "not_an_organism"}
