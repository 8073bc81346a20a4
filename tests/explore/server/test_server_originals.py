"""Images as stored, by key and through the server."""

import io

import numpy as np
import pytest
from PIL import Image

from aqqua.explore.picture import eight_bit
from aqqua.explore.server.app import LOCAL, create_app
from aqqua.explore.server.asked import AskedAtlas
from aqqua.explore.server.originals import Originals


def test_pixels_are_those_of_the_dataset(curated_dataset):
    originals = Originals(curated_dataset.path)
    for number in range(curated_dataset.blocks):
        block, table = curated_dataset.block_with(number, ["key"])
        for i, key in list(enumerate(table["key"].to_pylist()))[::9]:
            shown = np.asarray(Image.open(io.BytesIO(originals.png(key))))
            assert np.array_equal(shown, eight_bit(block.pixels(i)))
    for wrong in (1, 2**64 - 1):
        with pytest.raises(ValueError, match="must hold the images of the atlas"):
            originals.png(wrong)


def test_the_server_shows_them_where_it_can(curated_dataset, of_dataset, asked):
    testing = pytest.importorskip("starlette.testclient")
    path, chosen = of_dataset
    originals = Originals(curated_dataset.path)
    app = create_app([AskedAtlas(path)], "page", "", None, list(LOCAL), originals)
    client = testing.TestClient(app, base_url="http://localhost")
    assert client.get("/api/about").json()["originals"] is True
    answer = client.get("/api/0/original?rows=3")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == originals.png(chosen["key"][3].as_py())
    without = testing.TestClient(
        create_app([asked], "page", "", None, list(LOCAL)), base_url="http://localhost"
    )
    assert without.get("/api/about").json()["originals"] is False
    assert without.get("/api/0/original?rows=3").status_code == 404
