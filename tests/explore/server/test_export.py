"""A packed atlas holds what the atlas holds, and stays inside its folder."""

import base64
import json
import re

import numpy as np
import pytest
from made_explorer import made_atlas

from aqqua.explore.server.export import CHUNK, MOST_SINGLE, export_file, export_folder


def read(folder, name):
    text = (folder / "data" / f"{name.replace('/', '-')}.js").read_text(encoding="utf-8")
    said, value = json.loads(re.fullmatch(r"AQQUA_DATA\((.*)\);\n", text, re.DOTALL)[1].join("[]"))
    assert said == name
    return value


def test_a_folder_holds_all_of_it(asked, atlas_path, second_path, tmp_path):
    out = tmp_path / "page"
    assert export_folder(atlas_path, out, second_path) == 3500
    points = np.frombuffer(base64.b64decode(read(out, "0/points")), "<f4")
    assert np.array_equal(points, np.concatenate(asked.points))
    label = read(out, "0/column/label")
    assert np.array_equal(
        np.frombuffer(base64.b64decode(label["values"]), "<i4"), asked.values("label").values
    )
    chunks = -(-3000 // CHUNK)
    ids = [one for n in range(chunks) for one in read(out, f"0/ids/{n}")]
    assert ids == asked.ids(range(3000))
    pictures = [base64.b64decode(one) for n in range(chunks) for one in read(out, f"0/thumbnails/{n}")]
    assert pictures == asked.thumbnails(range(3000))
    assert {path.name for path in out.iterdir()} == {"index.html", "data"}
    for path in (out / "data").iterdir():
        assert re.fullmatch(r"[a-z0-9_-]+\.js", path.name)
        assert "<" not in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="new or empty folder"):
        export_folder(atlas_path, out)


def test_one_file_holds_all_of_it(second_path, tmp_path):
    out = tmp_path / "page.html"
    assert export_file(second_path, out) == 500
    text = out.read_text(encoding="utf-8")
    names = re.findall(r'type="application/json" data-name="([^"]+)"', text)
    assert {"about", "0/points", "0/ids/0", "0/thumbnails/0", "0/neighbours/0", "0/column/label"} <= set(
        names
    )
    assert text.count("</script>") == len(names) + 2
    with pytest.raises(FileExistsError):
        export_file(second_path, out)


def test_too_many_points_for_one_file_are_refused(tmp_path):
    path = made_atlas(tmp_path / "large.parquet", MOST_SINGLE + 1)
    with pytest.raises(ValueError, match="50000 points at most, got 50001"):
        export_file(path, tmp_path / "page.html")
