"""Who serves is known before a run begins; what is forced and cannot serve leaves nothing behind."""

import pytest

from aqqua.evaluate.models import load_embedder, save_embedder
from aqqua.kernels import choice
from aqqua.kernels.attention import choice as attention_choice
from aqqua.train.headline import headline
from aqqua.train.loop import pretrain
from aqqua.train.run import open_run

FORCED = [
    ("model", "attention", "flash2"),
    ("model", "kernels", "triton"),
    ("objective", "kernels", "recompute"),
    ("optim", "backend", "triton"),
    ("data", "renderer", "triton"),
]


def test_the_first_line_names_what_serves(make_config, tmp_path):
    run = open_run(make_config(tmp_path / "run", objective={"kernels": "recompute"}))
    line = headline(run)
    assert (
        "model.attention reference, model.kernels reference, objective.kernels triton, logits recomputed, "
        "optim.backend torch, data.renderer native;" in line
    )
    assert "float32 on cpu" in line
    assert f"{run.dataset.rows} images" in line
    assert "continued" not in line
    run.step, run.images = 3, 40
    assert headline(run).startswith("continued after step 3, 40 images; ViT")


def test_a_continued_run_says_which_settings_are_others(make_config, tmp_path):
    open_run(make_config(tmp_path / "run")).save()
    again = open_run(make_config(tmp_path / "run", optim={"lr": 0.5}, train={"log_every": 7}))
    again.step = 3
    assert again.changed == ["optim.lr", "train.log_every"]
    assert "images (with other optim.lr, train.log_every); ViT" in headline(again)
    same = open_run(make_config(tmp_path / "run"))
    assert same.changed == []


@pytest.mark.parametrize(("room", "setting", "name"), FORCED)
def test_what_cannot_serve_is_refused_by_name(make_config, tmp_path, monkeypatch, room, setting, name):
    monkeypatch.setattr(choice, "interpreted", lambda: False)
    config = make_config(tmp_path / "run", **{room: {setting: name}})
    with pytest.raises(ValueError, match=rf"{room}\.{setting}={name} must be able to serve here: "):
        open_run(config)
    assert not (tmp_path / "run").exists()


def test_a_refused_run_keeps_its_config(make_config, tmp_path, monkeypatch):
    pretrain(make_config(tmp_path / "run", train={"max_steps": 1}))
    before = (tmp_path / "run" / "config.yaml").read_text()
    monkeypatch.setattr(choice, "interpreted", lambda: False)
    with pytest.raises(ValueError, match=r"model\.kernels=triton"):
        pretrain(make_config(tmp_path / "run", model={"kernels": "triton"}))
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_what_trained_it_is_not_needed_to_use_it(make_config, tmp_path, monkeypatch):
    """A run and an export made with our kernels are opened where these cannot serve."""
    forced = {"kernels": "triton", "attention": "triton", "width": 32, "heads": 1}
    pretrain(make_config(tmp_path / "run", model=forced, train={"max_steps": 1}))
    monkeypatch.setattr(choice, "interpreted", lambda: False)
    monkeypatch.setattr(attention_choice, "interpreted", lambda: False)
    embedder = load_embedder(tmp_path / "run")
    assert (embedder.backbone.config.kernels, embedder.backbone.config.attention) == ("auto", "auto")
    save_embedder(embedder, tmp_path / "m.safetensors")
    assert load_embedder(tmp_path / "m.safetensors").backbone.config.attention == "auto"
