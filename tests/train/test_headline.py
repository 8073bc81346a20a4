"""The first line says what serves; what is forced and cannot serve is refused before the first step."""

import pytest

from aqqua.kernels import choice
from aqqua.train.headline import headline
from aqqua.train.run import open_run


def test_it_names_what_serves(make_config, tmp_path):
    run = open_run(make_config(tmp_path / "run", objective={"kernels": "triton"}))
    line = headline(run)
    assert "attention reference, blocks reference, losses triton, optimizer torch, renderer native;" in line
    assert "float32 on cpu" in line
    assert f"{run.dataset.rows} images" in line


@pytest.mark.parametrize("room", ["model", "objective"])
def test_forced_kernels_that_cannot_serve_are_refused(make_config, tmp_path, monkeypatch, room):
    monkeypatch.setattr(choice, "interpreted", lambda: False)
    run = open_run(make_config(tmp_path / "run", **{room: {"kernels": "triton"}}))
    with pytest.raises(RuntimeError, match="backend 'triton' needs a CUDA device, got cpu"):
        headline(run)


def test_forced_attention_that_cannot_serve_is_refused(make_config, tmp_path):
    run = open_run(make_config(tmp_path / "run", model={"attention": "flash2"}))
    with pytest.raises(RuntimeError, match="attention backend 'flash2' needs"):
        headline(run)
