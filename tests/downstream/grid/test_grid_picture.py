"""The picture of a map: its panels, and nothing fetched."""

import socket

import numpy as np
import pytest
from PIL import Image

from aqqua.downstream.grid.axes import GridConfig
from aqqua.downstream.grid.cells import gridded
from aqqua.downstream.grid.picture import colour_scale, draw, panels
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


def test_a_logarithmic_scale_spans_a_decade_or_is_none():
    colors = pytest.importorskip("matplotlib.colors")
    wide = colour_scale(0.5, 5.0, True)
    assert isinstance(wide, colors.LogNorm)
    assert (wide.vmin, wide.vmax) == (0.5, 5.0)
    for low, high, logarithmic in ((0.5, 4.9, True), (2.0, 2.0, True), (0.5, 500.0, False)):
        scale = colour_scale(low, high, logarithmic)
        assert not isinstance(scale, colors.LogNorm)
        assert (scale.vmin, scale.vmax) == (0.0, high)
