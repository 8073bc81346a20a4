"""Useful operations of a run's steps: by hand, by torch's counter, over all ranks, in metrics, on the bar."""

import json
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aqqua.cost.facts import load_facts
from aqqua.model.config import ModelConfig
from aqqua.model.heads import HeadConfig
from aqqua.objective.ssl import ObjectiveConfig
from aqqua.train import metrics, useful
from aqqua.train.distill import distilled_from
from aqqua.train.journal import Journal
from aqqua.train.loop import pretrain
from aqqua.train.metrics import METRICS, Meter
from aqqua.train.ranks import Place, Ranks
from aqqua.train.run import open_run
from aqqua.train.step import rates_at, take_step
from aqqua.train.useful import Useful, note, peak_tflop_s

TINY = ModelConfig(
    width=8, layers=2, heads=2, patch_px=2, registers=1, drop_path=0, scale_token=False, position="none"
)
HEADS = ObjectiveConfig(head=HeadConfig(prototypes=10, hidden=5, bottleneck=3))


def a_pack(patches: list[int], images: int = 1, masked: int = 1, budget: int = 10_000) -> Any:
    """Views of so many patches with two tokens before them: two global ones of each image, then others."""
    sizes = SimpleNamespace(instrument=np.zeros(images, int), instrument_names=("IFCB",))
    tokens = sum(patches) + 2 * len(patches)
    return SimpleNamespace(
        n_images=images, n_views=len(patches), patches_V=np.array(patches), kept_V=np.array(patches),
        dropped_N=None, patch_px=2, prefix_tokens=2,
        masked_M=np.zeros(masked), tokens=tokens, budget_tokens=budget, fill=tokens / budget, sizes=sizes,
    )  # fmt: skip


def by_hand() -> float:
    """Of one image with global views of 4 and 6 patches, a local one of 2, and one hidden patch.

    Tokens: 6, 8 and 4. Of a token and layer 24·8², and 4·8·n of attention; of a patch row 2·4·8.
    """
    student, teacher, squares, teacher_squares = 18, 14, 36 + 64 + 16, 36 + 64
    blocks = 2 * (24 * 64 * student + 4 * 8 * squares)
    taught = 2 * (24 * 64 * teacher + 4 * 8 * teacher_squares)
    row = 2 * (8 * 5 + 5 * 5 + 5 * 3 + 3 * 10)  # of a head
    patch = 2 * 4 * 8  # its backward pass once: pixels want no gradient
    return 3 * blocks + 2 * patch * 12 + 3 * row * (3 + 1) + taught + patch * 10 + row * (2 + 1)


def test_an_image_by_hand():
    assert Useful(TINY, HEADS).flops([a_pack([4, 6, 2])]) == by_hand()


def test_neither_the_room_of_a_pack_nor_its_neighbours_count():
    counted = Useful(TINY, HEADS)
    two = a_pack([4, 4, 6, 6, 2, 2], images=2, masked=2)  # crop by crop
    assert counted.flops([two, a_pack([4, 6, 2], budget=20)]) == pytest.approx(3 * by_hand())
    assert counted.flops([]) == 0


STEPS = {
    "registers, both scales known": {},
    "wide, 14 px, no registers": {"width": 96, "patch_px": 14, "registers": 0, "scale_token": False},
    "swiglu, deep, learned": {"ffn": "swiglu", "layers": 4, "position": "learned"},
    "drop-path": {"width": 64, "drop_path": 0.4},
    "swiglu, drop-path, physical": {
        "width": 64,
        "ffn": "swiglu",
        "drop_path": 0.2,
        "position": "rope_physical",
    },
}
IBOT = {"prototypes": 96, "hidden": 48, "bottleneck": 24, "last_layer": "plain"}


@pytest.mark.parametrize("ibot_head", [None, IBOT], ids=["shared head", "iBOT head"])
@pytest.mark.parametrize("model", STEPS.values(), ids=STEPS)
def test_a_whole_step_as_torch_counts_it(make_config, tmp_path, model, ibot_head):
    """Planned, rendered, taught, learned, moved: the bar is 2 %; what is no module (KoLeo) is within it."""
    head = {"prototypes": 128, "hidden": 64, "bottleneck": 32}
    rooms = {"model": {"drop_path": 0.0, **model}, "objective": {"head": head, "ibot_head": ibot_head}}
    run = open_run(make_config(tmp_path, **rooms))
    counted, predicted = counted_and_predicted(run)
    assert predicted == pytest.approx(counted, rel=0.02)


def counted_and_predicted(run) -> tuple[float, float]:
    with (
        closing(run.feeder.steps(run.lanes, run.step)) as steps,
        FlopCounterMode(display=False) as counter,
    ):
        data = next(steps)
        take_step(run, data, rates_at(run))
    theirs, anchored = distilled_from(run.model.followed), rates_at(run).gram_weight > 0
    useful = Useful.of(run.config, run.device, run.compute_dtype, None, theirs)
    return counter.get_total_flops(), useful.flops(data.packs, anchored)


@pytest.mark.parametrize("drop", [[0.5, 0.25], [0, 0.5]], ids=["all views", "local views"])
def test_dropped_patches_are_not_counted(make_config, tmp_path, drop):
    model = {"width": 64, "layers": 3, "drop_path": 0.0}
    counted, predicted = counted_and_predicted(
        open_run(make_config(tmp_path, model=model, views={"token_drop": drop}))
    )
    assert predicted == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("side", [8, 16])
def test_patches_of_another_side_are_counted_as_they_are(make_config, tmp_path, side):
    """The stored kernel is resized, which is no product; its products are those of the pack's side."""
    model = {"width": 192, "layers": 3, "drop_path": 0.0, "patch_px": 16 if side == 8 else 8}
    config = make_config(tmp_path, model=model, views={"patch_choices": [side]})
    counted, predicted = counted_and_predicted(open_run(config))
    assert predicted == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("start_share", [0.0, 0.9], ids=["on", "not yet"])
def test_gram_counts_once_it_is_on(make_config, tmp_path, start_share):
    objective = {"gram": {"start_share": start_share, "scale": 2}}
    config = make_config(tmp_path, model={"width": 64, "layers": 3, "drop_path": 0.0}, objective=objective)
    counted, predicted = counted_and_predicted(open_run(config))
    assert predicted == pytest.approx(counted, rel=0.02)


def test_a_larger_teacher_is_counted_as_it_is(make_config, tmp_path):
    larger = {"width": 96, "layers": 4, "drop_path": 0.0, "registers": 2}
    teacher = make_config(tmp_path / "teacher", model=larger)
    pretrain(teacher)
    config = make_config(
        tmp_path / "small", model={"width": 32, "drop_path": 0.0}, distill={"teacher": str(teacher.run)}
    )
    counted, predicted = counted_and_predicted(open_run(config))
    assert predicted == pytest.approx(counted, rel=0.02)


class Told(Ranks):
    """Rank 0 of two; the other says so."""

    def __init__(self, theirs: Any) -> None:
        super().__init__(Place(0, 2))
        self.theirs = theirs

    def gather(self, value):
        return [value, self.theirs]


def test_the_mfu_is_of_all_ranks_time_and_gpus(monkeypatch):
    clock = [10.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: clock[0])
    meter = Meter(Useful(TINY, HEADS, peak_tflop_s=2 * 989.0))
    meter.add([a_pack([4, 6, 2])])
    meter.add([a_pack([4, 6, 2])])
    clock[0] += 0.5
    found = meter.read(Told([1, 18, 99, 0.0, 3e12, {}]))
    assert found["tflop_per_s"] == pytest.approx((2 * by_hand() + 3e12) / 0.5 / 1e12)
    assert found["mfu"] == pytest.approx((2 * by_hand() + 3e12) / 0.5 / (2 * 989e12))
    assert "mfu" not in Useful(TINY, HEADS).numbers(1e12, 1.0)
    clock[0] += 1.0
    assert meter.read(Told([0, 0, 0, 0.0, 0.0, {}]))["mfu"] == 0


def test_the_bar_shows_the_one_to_look_at():
    assert note({"tflop_per_s": 412.3, "mfu": 0.4169}) == "mfu 41.7%"
    assert note({"tflop_per_s": 0.01234}) == "0.0123 TFLOP/s"


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA H200 MIG 3g.71gb", None),
        ("NVIDIA GeForce RTX 3090", None),
    ],
)
def test_the_peak_of_a_gpu_by_its_own_name(monkeypatch, device, peak):
    known = load_facts().named(device)
    assert (None if known is None else known.peak_tflop_s.value) == peak
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: device)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(uuid="a"))
    cuda = torch.device("cuda")
    assert peak_tflop_s(cuda, Ranks()) == peak
    assert peak_tflop_s(cuda, Told(["b", 989.0])) == (None if peak is None else peak + 989)
    assert peak_tflop_s(cuda, Told(["a", peak])) == peak  # they share it
    assert peak_tflop_s(cuda, Told(["cpu", None])) is None


def test_a_cpu_has_no_peak_and_its_metrics_no_mfu(make_config, tmp_path):
    run = pretrain(make_config(tmp_path, train={"max_steps": 3}))
    for line in (run.folder / METRICS).read_text().splitlines():
        row = json.loads(line)
        assert row["tflop_per_s"] > 0
        assert "mfu" not in row


def test_a_known_peak_is_written_and_shown(make_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aqqua.train.loop.peak_tflop_s", lambda _device, _ranks: 0.5)
    shown: list[str] = []
    monkeypatch.setattr(Journal, "progress", lambda self, _images, _text="": shown.append(self._pace))
    run = pretrain(make_config(tmp_path, train={"max_steps": 3, "log_every": 2}))
    (row,) = [json.loads(line) for line in (run.folder / METRICS).read_text().splitlines()]
    assert row["mfu"] == pytest.approx(row["tflop_per_s"] / 0.5)
    assert shown[-1] == f" mfu {row['mfu']:.1%}"
    assert "no mfu" not in capsys.readouterr().err


def test_what_is_counted_is_what_plan_predicts(make_config, tmp_path):
    """The same formulas, from the same packs, by either way."""
    from aqqua.cost.estimate import workload
    from aqqua.cost.tokens import tokens_of

    config = make_config(tmp_path, model={"drop_path": 0.0})
    run = open_run(config)
    with closing(run.feeder.steps(run.lanes, run.step)) as steps:
        packs = next(steps).packs
    of_image = workload(config, tokens_of(packs, "")).flops.total
    counted = Useful(config.model, config.objective).flops(packs)
    assert counted == pytest.approx(of_image * sum(pack.n_images for pack in packs))
    assert useful.TERA == 1e12
