"""The picture of a map: its panels, and nothing fetched."""

import socket

import numpy as np
import pytest
from PIL import Image

from aqqua.downstream.grid.axes import GridConfig
from aqqua.downstream.grid.cells import gridded
from aqqua.downstream.grid.picture import draw, panels
from aqqua.downstream.grid.sampled import read_samples


def test_a_picture_without_a_network(samples, tmp_path, monkeypatch):
    pytest.importorskip("cartopy")

    def refuse(*_):
        raise AssertionError("a picture must fetch nothing")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = gridded(read_samples(samples), GridConfig(cell_degrees=10))
    draw(found, tmp_path / "map.png", "Costs $5, and $6")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size == (1560, 960)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert [panel.title.split()[0] for panel in panels(found)] == [
        "Abundance",
        "Carbon",
        "Shannon",
        "Samples",
    ]


def test_one_time_and_layer(samples, tmp_path):
    found = gridded(read_samples(samples), GridConfig(cell_degrees=10, time="month"))
    with pytest.raises(ValueError, match=r"one time and layer, got several in \['time'\]"):
        draw(found, tmp_path / "map.png")
