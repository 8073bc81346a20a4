"""One step: it is taken whole or not at all; packs and ranks add up to the same computation."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aqqua.model.sequences import Sequences
from aqqua.objective.ssl import Batch
from aqqua.plan.pack import Pack, drop_scores
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes
from aqqua.train.batch import Shape
from aqqua.train.data import Feeder, StepData
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import image_ids, rates_at, take_step

MakeConfig = Callable[..., PretrainConfig]


def everything(run: Run) -> dict[str, Tensor]:
    """All tensors of a run: student, teacher, moments."""
    return {name: tensor.clone() for name, tensor in run.engine.tensors()}


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def next_data(run: Run) -> StepData:
    return run.feeder.step(run.lanes, run.step)


def go(run: Run) -> None:
    data = next_data(run)
    outcome = take_step(run, data, rates_at(run))
    assert outcome.taken
    run.advance(data, outcome.n_images)


def feeder(config: PretrainConfig, rank: int = 0, ranks: int = 1) -> Feeder:
    rooms = (
        Dataset.open(config.data.path),
        config.data,
        config.views,
        config.masks,
        Shape.of(config.model, config.views, torch.float32),
    )
    return Feeder(*rooms, seed=config.seed, rank=rank, ranks=ranks)


def scores_of(batch: Batch) -> Tensor:
    assert batch.drop_scores_L2V is not None
    return batch.drop_scores_L2V


@pytest.fixture
def run(make_config: MakeConfig, tmp_path) -> Run:
    """Two steps in: the optimizer has moments, the teacher differs from the student."""
    run = open_run(make_config(tmp_path))
    go(run)
    go(run)
    return run


def poison(run: Run, data: StepData, how: str) -> None:
    if how == "one pixel":
        data.batches[1].patches_NF[3, 1] = float("nan")
    elif how == "one weight of the loss":
        data.batches[0].weight_M[0] = float("inf")
    else:  # the loss is finite, one gradient is not
        run.model.student.backbone.norm.weight.register_hook(lambda grad: grad * float(how))


@pytest.mark.parametrize("how", ["one pixel", "one weight of the loss", "nan", "inf", "-inf"])
def test_a_step_that_is_not_finite_changes_nothing(run, how):
    before, data = everything(run), next_data(run)
    poison(run, data, how)
    outcome = take_step(run, data, rates_at(run))
    assert not outcome.taken
    assert same_bits(everything(run), before)
    assert run.guard.streak == 1
    run.advance(data, outcome.n_images)
    assert run.step == 3
    assert run.lanes == data.states  # past the pack that did it


def test_a_skipped_step_leaves_no_trace_in_the_next(run, make_config, tmp_path):
    """The step after a skipped one is the step of a run that never saw the bad data."""
    twin = open_run(make_config(tmp_path / "twin"))
    go(twin)
    go(twin)
    data = next_data(run)
    poison(run, data, "one pixel")
    outcome = take_step(run, data, rates_at(run))
    for each in (run, twin):
        each.advance(data, outcome.n_images)
        go(each)
    assert same_bits(everything(run), everything(twin))


def test_image_ids_are_those_of_the_packs(run):
    data = next_data(run)
    ids = image_ids(run, data)
    assert len(ids) == data.n_images == sum(batch.n_images for batch in data.batches)
    dataset = run.dataset
    pack = data.packs[0]
    table = dataset.table(["image_id", "height", "width"], blocks=[int(pack.block_I[0])])
    row = {name: table[name][int(pack.row_I[0])].as_py() for name in table.column_names}
    assert row == {
        "image_id": ids[0], "height": pack.sizes.height[0], "width": pack.sizes.width[0],
    }  # fmt: skip


# Invariants 4 and 5: ranks and packs.


def arrays(thing: Pack | Sizes) -> dict[str, Any]:
    return {field.name: getattr(thing, field.name) for field in fields(thing)}


def assert_same_pack(a: Pack, b: Pack) -> None:
    for name, value in arrays(a).items():
        other = getattr(b, name)
        if isinstance(value, Sizes):
            for size, array in arrays(value).items():
                np.testing.assert_array_equal(array, getattr(other, size), err_msg=size)
        else:
            np.testing.assert_array_equal(value, other, err_msg=name)


def test_two_ranks_see_what_one_sees(make_config, tmp_path):
    config = make_config(tmp_path, data={"lanes": 4})
    alone, pair = feeder(config), [feeder(config, rank=r, ranks=2) for r in (0, 1)]
    assert {alone.images_per_step(), *(one.images_per_step() for one in pair)} == {alone.images_per_step()}
    states, pair_states = alone.start(), [one.start() for one in pair]
    for step in range(3):
        whole = alone.step(states, step)
        halves = [one.step(s, step) for one, s in zip(pair, pair_states, strict=True)]
        states, pair_states = whole.states, [half.states for half in halves]
        assert {**pair_states[0], **pair_states[1]} == states
        of_lane = {
            lane: (half.packs[i], half.batches[i])
            for one, half in zip(pair, halves, strict=True)
            for i, lane in enumerate(one.packers)
        }
        assert sum(half.n_images for half in halves) == whole.n_images
        for lane, pack, batch in zip(alone.packers, whole.packs, whole.batches, strict=True):
            assert_same_pack(of_lane[lane][0], pack)
            assert torch.equal(of_lane[lane][1].patches_NF, batch.patches_NF)
            assert torch.equal(scores_of(of_lane[lane][1]), scores_of(batch))


def test_ranks_that_do_not_divide_the_lanes_are_refused(make_config, tmp_path):
    with pytest.raises(ValueError, match="ranks must divide lanes, got rank 0 of 3 and 2 lanes"):
        feeder(make_config(tmp_path), rank=0, ranks=3)


def test_a_step_of_the_feeder_is_a_pure_function(make_config, tmp_path):
    used, fresh = feeder(make_config(tmp_path)), feeder(make_config(tmp_path))
    states = used.start()
    for step in range(3):
        data = used.step(states, step)
        states = data.states
    again = fresh.step(states, 3)
    for pack, other in zip(used.step(states, 3).packs, again.packs, strict=True):
        assert_same_pack(pack, other)


def test_drop_path_is_drawn_by_seed_step_and_view_alone(make_config, tmp_path):
    """The same view in packs of other company, order and size gets the same scores."""

    def scores(tokens: int, seed: int = 3, step: int = 9) -> dict[int, bytes]:
        one = feeder(make_config(tmp_path, data={"pack_tokens": tokens}))
        packs = one.step(one.start(), 0).packs
        found: dict[int, bytes] = {}
        for pack in packs:
            draw = drop_scores(pack, seed, step, 2)
            assert draw.shape == (2, 2, pack.n_views)
            found |= {int(key): draw[..., v].tobytes() for v, key in enumerate(pack.key_V)}
        return found

    small, large = scores(512), scores(1024)
    common = small.keys() & large.keys()
    assert len(common) > 20
    assert all(small[view] == large[view] for view in common)
    assert len(set(large.values())) == len(large)  # each view its own
    assert all(large[view] != value for view, value in scores(1024, step=10).items())
    assert all(large[view] != value for view, value in scores(1024, seed=4).items())


def test_the_feeder_gives_the_scores_of_its_step(make_config, tmp_path):
    one = feeder(make_config(tmp_path))
    data = one.step(one.start(), 7)
    want = torch.from_numpy(drop_scores(data.packs[0], 3, 7, 2))
    assert torch.equal(scores_of(data.batches[0]), want)
    off = feeder(make_config(tmp_path, model={"drop_path": 0.0}))
    assert off.step(off.start(), 0).batches[0].drop_scores_L2V is None


def naive_assignment(rows_BK: Tensor, temperature: float) -> Tensor:
    """Sinkhorn with plain exp in float64, as published; no logarithms, no packs."""
    q_KB = (rows_BK.double() / temperature).exp().T
    q_KB = q_KB / q_KB.sum()
    K, B = q_KB.shape
    for _ in range(3):
        q_KB = q_KB / q_KB.sum(dim=1, keepdim=True) / K
        q_KB = q_KB / q_KB.sum(dim=0, keepdim=True) / B
    return (q_KB * B).T


def cross_entropy(student_RK: Tensor, target_RK: Tensor) -> Tensor:
    return -(target_RK * (student_RK.double() / 0.1).log_softmax(dim=1)).sum(dim=1)


def naive_koleo(cls_ID: Tensor) -> Tensor:
    x = torch.nn.functional.normalize(cls_ID.double(), dim=1)
    similarity = (x @ x.T).fill_diagonal_(-2)
    nearest = x[similarity.argmax(dim=1)]
    return -((x - nearest + 1e-8).norm(dim=1) + 1e-8).log().sum()


def naive_losses(run: Run, data: StepData, temperature: float) -> dict[str, Tensor]:
    """The step as one computation: all views of all packs in one forward, all rows in one loss."""
    grids = torch.cat([batch.student.grids_V2 for batch in data.batches])
    um_per_px = torch.cat([batch.student.um_per_px_V for batch in data.batches])
    whole = Sequences.from_grids(grids, um_per_px, 8, run.config.model.prefix)
    patches, mask = (torch.cat([getattr(b, name) for b in data.batches]) for name in ("patches_NF", "mask_N"))
    hide = torch.cat([batch.hide_scale_V for batch in data.batches if batch.hide_scale_V is not None])
    student = run.model.student.backbone(patches, whole, mask_N=mask, hide_scale_V=hide)
    with torch.no_grad():
        teacher = run.model.teacher.backbone(patches, whole)  # also of local views, which nobody asks for
        teacher_cls_VK = run.model.teacher.dino_head(teacher.cls_VD)
        named = naive_assignment(run.model.teacher.dino_head(teacher.patches_ND[mask]), temperature)
    student_VK = run.model.student.dino_head(student.cls_VD)
    starts = np.cumsum([0, *(batch.student.views for batch in data.batches)])
    view_of = [  # of pack p: rows of its views, one row of the table per crop
        torch.arange(starts[p], starts[p + 1]).reshape(-1, batch.n_images)
        for p, batch in enumerate(data.batches)
    ]
    global_rows = torch.cat([torch.cat([rows[0], rows[1]]) for rows in view_of])
    target_VK = torch.zeros(len(grids), student_VK.shape[1], dtype=torch.float64)
    target_VK[global_rows] = naive_assignment(teacher_cls_VK[global_rows], temperature)
    pairs = [
        cross_entropy(student_VK[rows[s]], target_VK[rows[t]]).sum()
        for rows in view_of for t in (0, 1) for s in range(len(rows)) if s != t
    ]  # fmt: skip
    n_pairs, n_images = 2 * (len(view_of[0]) - 1), data.n_images
    weight = torch.cat([batch.weight_M for batch in data.batches])
    ibot = cross_entropy(run.model.student.dino_head(student.patches_ND[mask]), named)
    koleo = [naive_koleo(student.cls_VD[rows[g]]) for rows in view_of for g in (0, 1)]
    return {
        "dino": torch.stack(pairs).sum() / n_pairs / n_images,
        "ibot": (ibot * weight).sum() / (2 * n_images),
        "koleo": torch.stack(koleo).sum() / n_images,  # neighbours stay within a pack, by design
    }


def test_packs_of_unequal_counts_add_up_to_one_computation(make_config, tmp_path):
    config = make_config(tmp_path, model={"drop_path": 0.0}, optim={"clip_grad": float("inf")})
    run = open_run(config)
    go(run)
    data = next_data(run)
    while len({batch.n_images for batch in data.batches}) == 1:
        run.lanes = data.states
        data = next_data(run)
    rates = rates_at(run)
    naive = naive_losses(run, data, rates.temperature)
    total = naive["dino"] + naive["ibot"] + 0.1 * naive["koleo"]
    parameters = dict(run.model.student.named_parameters())
    wanted = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    outcome = take_step(run, data, rates)
    got = {name: outcome.losses[name] for name in naive}
    assert got == pytest.approx({name: value.item() for name, value in naive.items()}, rel=2e-5)
    assert outcome.losses["total"] == pytest.approx(total.item(), rel=2e-5)
    largest = max(float(grad.abs().max()) for grad in wanted if grad is not None)
    for (name, parameter), grad in zip(parameters.items(), wanted, strict=True):
        assert (parameter.grad is None) == (grad is None), name
        if grad is not None:
            torch.testing.assert_close(parameter.grad, grad, rtol=1e-3, atol=2e-6 * largest, msg=name)


def test_the_order_of_the_packs_does_not_matter(make_config, tmp_path):
    run = open_run(make_config(tmp_path, optim={"clip_grad": float("inf")}))
    data = next_data(run)
    take_step(run, data, replace(rates_at(run), lr=0.0, last_layer_lr=0.0, weight_decay=0.0, momentum=1.0))
    grads = {name: p.grad.clone() for name, p in run.model.student.named_parameters() if p.grad is not None}
    turned = StepData(data.packs[::-1], data.batches[::-1], data.states)
    take_step(run, turned, replace(rates_at(run), lr=0.0, last_layer_lr=0.0, weight_decay=0.0, momentum=1.0))
    for name, parameter in run.model.student.named_parameters():
        if name in grads:
            torch.testing.assert_close(parameter.grad, grads[name], rtol=1e-4, atol=1e-6, msg=name)
