"""The order of the data over a million images: for every number of ranks, and taken up anywhere."""

import json
import random
from dataclasses import asdict, fields

import numpy as np
import pytest
from alike_images import BLOCK, LANES, Drawn, lane_of, packer_of

from aqqua.plan.lanes import LaneState, lanes_of_rank
from aqqua.plan.pack import Pack

WORLDS = (1, 2, 3, 4, 8)


def images_by_step(world: int, steps: int) -> list[list[tuple[int, ...]]]:
    """Keys of the images of every global step, lane by lane, as `world` ranks read them one after another."""
    per_lane: dict[int, list[tuple[int, ...]]] = {}
    for rank in range(world):
        dataset = Drawn(200_000)  # each rank its own
        for number in lanes_of_rank(LANES, rank, world):
            packer, state = packer_of(dataset, number), LaneState()
            per_lane[number] = []
            for _ in range(steps):
                pack, state = packer.next_pack(state)
                per_lane[number].append(tuple(pack.sizes.key.tolist()))
    return [[per_lane[number][step] for number in range(LANES)] for step in range(steps)]


@pytest.mark.reliability("7")
def test_every_number_of_ranks_sees_the_same_images_at_the_same_step(full, measured):
    steps = 40 if full else 3
    alone = images_by_step(1, steps)
    equal = sum(images_by_step(world, steps) == alone for world in WORLDS)
    images = sum(len(lane) for step in alone for lane in step)
    measured(
        f"{images} images of {steps} steps in the same order for {equal} of {len(WORLDS)} numbers of ranks"
    )
    assert equal == len(WORLDS)
    assert images > 24 * steps


@pytest.mark.reliability("7")
@pytest.mark.parametrize("epoch", [0, 1])
def test_no_image_is_missed_or_comes_twice(full, measured, epoch):
    dataset = Drawn(1_000_003 if full else 50_003)
    seen = np.zeros(dataset.rows, np.int64)
    lanes = [lane_of(dataset, number) for number in range(LANES)]
    windows = -(-dataset.blocks * (epoch + 1) // (LANES * 4))
    first = dataset.blocks * epoch // (LANES * 4)
    for lane in lanes:
        for number in range(first, windows):
            window = lane.window(number)
            mine = window.visit_E == epoch
            np.add.at(seen, (window.block_E * BLOCK + window.row_E)[mine], 1)
    twice, missed = int((seen > 1).sum()), int((seen == 0).sum())
    measured(f"epoch {epoch}: {twice} twice, {missed} missed of {dataset.rows}")
    assert (twice, missed) == (0, 0)


def same(a: Pack, b: Pack) -> bool:
    names = [field.name for field in fields(Pack) if field.name != "sizes"]
    return np.array_equal(a.sizes.key, b.sizes.key) and all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "um_per_px_V") for name in names
    )


@pytest.mark.reliability("7")
def test_resume_at_random_steps_gives_the_same_packs(full, measured):
    steps, resumes, draw = (400, 100, random.Random(7)) if full else (30, 5, random.Random(7))
    packer, states, packs = packer_of(Drawn(200_000), 5), [LaneState()], []
    for _ in range(steps):
        pack, after = packer.next_pack(states[-1])
        packs.append(pack)
        states.append(after)
    exact = most = 0
    for step in draw.sample(range(steps), resumes):
        kept = json.dumps(asdict(states[step]))  # as a checkpoint keeps it
        most = max(most, len(kept))
        pack, after = packer_of(Drawn(200_000), 5).next_pack(LaneState(**json.loads(kept)))
        exact += same(pack, packs[step]) and after == states[step + 1]
    measured(f"{exact} of {resumes} resumed exactly; state of a lane {most} bytes of JSON")
    assert exact == resumes
    assert most <= 1024


@pytest.mark.reliability("7")
def test_any_position_costs_one_window(full, measured):
    draw, most = random.Random(9), 0
    for _ in range(200 if full else 10):
        dataset = Drawn(3_000_000_000)
        lane_of(dataset, draw.randrange(LANES)).window(draw.randrange(10**9))
        most = max(most, dataset.asked)
    measured(f"any window of 3·10⁹ images reads {most} blocks (a window has 4)")
    assert most == 4
