"""What is asked for and what is opened, or one clear sentence."""

import numpy as np
import pytest
import torch

from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.contenders.opening import open_contender
from aqqua.evaluate.models import load_embedder, save_embedder
from aqqua.store.read import Dataset

CPU = torch.device("cpu")


def test_a_run_its_export_and_its_untrained_twin(tiny_run, sample_dataset, tmp_path):
    dataset = Dataset.open(sample_dataset)
    run = open_contender(str(tiny_run), "mean", CPU)
    assert isinstance(run, Native)
    assert run.facts.kind == "aqqua"
    save_embedder(load_embedder(tiny_run), tmp_path / "a.safetensors")
    file = open_contender(str(tmp_path / "a.safetensors"), "mean", CPU)
    assert file.facts == run.facts
    np.testing.assert_array_equal(file(dataset, 0), run(dataset, 0))

    fresh = open_contender(f"untrained:{tiny_run}", "mean", CPU)
    assert (fresh.facts.kind, fresh.facts.parameters) == ("untrained", run.facts.parameters)
    assert fresh.facts.sha256 != run.facts.sha256
    assert fresh.facts == open_contender(f"untrained:{tiny_run}", "mean", CPU).facts
    assert fresh.flops(dataset.sizes(0)) == run.flops(dataset.sizes(0))


def test_a_run_that_is_told_another_scale(tiny_run):
    true, twice, hidden = (
        open_contender(f"{tiny_run}{told}", "cls", CPU)
        for told in ("", "?um_per_px=x2", "?um_per_px=unknown")
    )
    assert len({contender.facts.key for contender in (true, twice, hidden)}) == 3
    assert true.facts.sha256 == twice.facts.sha256 == hidden.facts.sha256
    assert twice.facts.input.endswith("µm/px told wrong, times 2")
    assert hidden.facts.input.endswith("µm/px not told")


def test_a_run_at_another_patch_side(tiny_run, sample_dataset):
    stored, small = (
        open_contender(str(tiny_run), "cls", CPU),
        open_contender(f"{tiny_run}?patch_px=6", "cls", CPU),
    )
    assert small.facts.key != stored.facts.key
    assert "patches of 6 px" in small.facts.input
    sizes = Dataset.open(sample_dataset).sizes(0)
    assert small.flops(sizes) != stored.flops(sizes)


@pytest.mark.parametrize("spec", ["pixels", "handcrafted"])
def test_baselines(spec):
    contender = open_contender(spec)
    assert (contender.name, contender.facts.kind) == (spec, spec)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("absent", "the path must exist"),
        ("untrained:absent", "the path must exist"),
        ("absent?um_per_px=2", "options must be of um_per_px, patch_px, got .*unknown, or x and a factor"),
        ("absent?patch_px=small", "patch_px must be pixels"),
        ("absent?patch_px=0", "patch_px must be 1 to 64"),
        ("absent?um_per_px=xinf", "unknown, or x and a factor"),
        ("timm:", "something must follow timm:"),
        ("hf:", "something must follow hf:"),
        ("timm:vit_tiny_patch16_224?sise=3", "options must be of weights, size, stretch"),
        ("timm:vit_tiny_patch16_224?size=big", "options must be of"),
        ("timm:vit_tiny_patch16_224?size=0", "options must be of"),
        ("timm:vit_tiny_patch16_224?stretch=1", "options must be of"),
        ("timm:vit_tiny_patch16_224?size", "options must be of"),
        ("hf:folder?weights=a.safetensors", "options must be of size, stretch"),
        ("timm:vit_tiny_patch16_224@trained", "after @ only random"),
        (
            "timm:vit_tiny_patch16_224@random?weights=a.safetensors",
            "after @ only random, and then no weights",
        ),
    ],
)
def test_what_cannot_be_meant(spec, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        open_contender(spec, device=CPU)
    assert "\n" not in str(caught.value)
