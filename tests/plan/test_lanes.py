"""The order of the data: every image once an epoch, the same for every number of ranks, no memory."""

import dataclasses
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_sizes import FAR, MadeDataset, make_lane, make_packer
from pydantic import ValidationError

from aqqua.plan.lanes import LOOK_AHEAD, LaneConfig, LaneState, lanes_of_rank
from aqqua.plan.order import COPY_SHIFT
from aqqua.plan.pack import Pack
from aqqua.plan.view_config import ViewConfig

FEW_VIEWS = ViewConfig(locals=1, max_tokens=(64, 16))


def walk(dataset: MadeDataset, lanes: int, window_blocks: int, windows: int, weights=None, seed: int = 0):
    """(lane, window) → its images, over the first windows of every lane."""
    config = {"lanes": lanes, "window_blocks": window_blocks, "pack_tokens": 4096}
    return {
        (lane, number): make_lane(dataset, lane, seed=seed, weights=weights, **config).window(number)
        for lane in range(lanes)
        for number in range(windows)
    }


def images_by_visit(windows) -> dict[int, Counter]:
    """How often each (block, row) comes under each visit."""
    counts: dict[int, Counter] = {}
    for window in windows.values():
        for block, row, visit in zip(window.block_E, window.row_E, window.visit_E, strict=True):
            counts.setdefault(int(visit), Counter())[int(block), int(row)] += 1
    return counts


@pytest.mark.parametrize(
    ("rows", "lanes", "window_blocks"),
    [(1000, 1, 1), (1000, 4, 3), (999, 3, 4), (1000, 7, 2), (130, 8, 2), (16, 5, 1), (1000, 16, 64)],
)
def test_every_image_comes_once_an_epoch(rows, lanes, window_blocks):
    dataset = MadeDataset(rows, block_rows=16)
    epochs = 3
    windows = -(-dataset.blocks * epochs // (lanes * window_blocks))
    counts = images_by_visit(walk(dataset, lanes, window_blocks, windows))
    everything = {(n // 16, n % 16): 1 for n in range(rows)}
    for epoch in range(epochs):
        assert counts[epoch] == everything


def test_sizes_are_those_of_the_images_named():
    dataset = MadeDataset(500, block_rows=32)
    window = make_lane(dataset, 1, lanes=2, window_blocks=3).window(1)
    for i, (block, row) in enumerate(zip(window.block_E.tolist(), window.row_E.tolist(), strict=True)):
        expected = dataset.sizes(block)
        for name in ("key", "height", "width"):
            assert getattr(window.sizes, name)[i] == getattr(expected, name)[row]


def test_order_differs_between_epochs_lanes_and_seeds_and_mixes_within_a_window():
    dataset = MadeDataset(64 * 64, block_rows=64)
    blocks = {
        (seed, epoch): [
            next(make_lane(dataset, seed=seed, lanes=1, window_blocks=1).blocks(epoch * 64 + i))
            for i in range(64)
        ]
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    for (_, epoch), order in blocks.items():
        assert {e for _, e in order} == {epoch}
        assert sorted(block for block, _ in order) == list(range(64))
    assert len({tuple(block for block, _ in order) for order in blocks.values()}) == 4

    window = make_lane(dataset, lanes=1, window_blocks=4).window(0)
    assert (np.diff(window.block_E) != 0).mean() == pytest.approx(0.75, abs=0.12)  # four blocks, mixed
    ranks = [make_lane(dataset, lane, lanes=2, window_blocks=1).window(w).row_E
             for lane in (0, 1) for w in (0, 1)]  # fmt: skip
    for i in range(4):
        assert abs(np.corrcoef(ranks[i], np.arange(64))[0, 1]) < 0.45
        for j in range(i):
            assert (ranks[i] == ranks[j]).mean() < 0.15


def test_window_order_is_not_the_order_of_blocks():
    """With as many blocks as images in a window, equal streams would give equal permutations."""
    dataset = MadeDataset(128 * 128, block_rows=128)
    lane = make_lane(dataset, lanes=1, window_blocks=1)
    epoch_order = [next(lane.blocks(i))[0] for i in range(128)]
    for window in (0, 1):
        assert (lane.window(window).row_E == epoch_order).mean() < 0.1


def global_batches(ranks: int, steps: int) -> list[list[tuple[int, ...]]]:
    """Images of each step over all ranks, lane by lane."""
    dataset = MadeDataset(3000, block_rows=64)
    packers = {
        number: make_packer(make_lane(dataset, number, lanes=4, window_blocks=2, pack_tokens=2048), FEW_VIEWS)
        for rank in range(ranks)
        for number in lanes_of_rank(4, rank, ranks)
    }
    states = dict.fromkeys(packers, LaneState())
    batches = []
    for _ in range(steps):
        step = {}
        for number, packer in packers.items():
            pack, states[number] = packer.next_pack(states[number])
            step[number] = (*pack.sizes.key.tolist(), *pack.visit_I.tolist())
        batches.append([step[number] for number in sorted(step)])
    return batches


def test_the_global_batch_is_the_same_for_every_number_of_ranks():
    assert global_batches(1, 12) == global_batches(2, 12) == global_batches(4, 12)


def assert_same(a: Pack, b: Pack) -> None:
    for field in dataclasses.fields(Pack):
        if field.name == "sizes":
            np.testing.assert_array_equal(a.sizes.key, b.sizes.key)
        else:
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


def test_resumes_exactly_from_every_state():
    dataset = MadeDataset(2000, block_rows=32)
    lane = make_lane(dataset, lanes=2, window_blocks=1, pack_tokens=2048)
    packer, states, packs = make_packer(lane, FEW_VIEWS), [LaneState()], []
    for _ in range(40):
        pack, after = packer.next_pack(states[-1])
        packs.append(pack)
        states.append(after)
    assert states[-1].window > 5
    for step in range(0, 38, 3):
        fresh = make_packer(lane, FEW_VIEWS)
        pack, after = fresh.next_pack(states[step])
        assert_same(pack, packs[step])
        assert after == states[step + 1]
        assert_same(fresh.next_pack(after)[0], packs[step + 1])


def test_a_state_is_three_integers_that_fit_64_bits():
    packer = make_packer(make_lane(MadeDataset(5000, block_rows=64), lanes=1, window_blocks=1))
    state = LaneState()
    for _ in range(60):
        _, state = packer.next_pack(state)
        values = dataclasses.astuple(state)
        assert len(values) == 3
        assert all(type(value) is int and 0 <= value < 1 << 64 for value in values)
        assert not state.taken & 1
        assert LaneState(**dataclasses.asdict(state)) == state
    assert LOOK_AHEAD == 64


def test_weights_repeat_and_drop_images_on_average():
    dataset = MadeDataset(64 * 100, block_rows=64)
    wanted = np.array([0.0, 0.25, 1.0, 1.5, 2.0, 7.3, 0.0, 1.0] * 8)
    windows = walk(dataset, 4, 1, 25, weights=lambda _: wanted)
    seen = np.zeros((100, 64), int)
    for window in windows.values():
        np.add.at(seen, (window.block_E, window.row_E), 1)
    assert (seen[:, wanted == 0] == 0).all()
    assert (seen[:, wanted == 1] == 1).all()
    assert (seen[:, wanted == 2] == 2).all()
    assert (np.abs(seen - wanted) < 1).all()
    for weight in (0.25, 1.5, 7.3):
        assert seen[:, wanted == weight].mean() == pytest.approx(weight, abs=0.06)


def test_copies_are_spread_over_the_window_and_are_visits_of_their_own():
    dataset = MadeDataset(64 * 4, block_rows=64)
    windows = walk(dataset, 1, 1, 8, weights=lambda _: np.full(64, 3.0))
    counts = images_by_visit(windows)
    assert set(counts) == {epoch + (copy << 24) for epoch in (0, 1) for copy in (0, 1, 2)}
    assert all(n == 1 for counter in counts.values() for n in counter.values())
    assert COPY_SHIFT == 24
    window = windows[0, 0]
    apart = [np.ptp(np.flatnonzero(window.row_E == row)) for row in range(64)]
    assert np.mean(apart) > 60  # of 192 places; side by side it would be 2


def test_which_images_are_repeated_is_drawn_anew_each_epoch():
    dataset = MadeDataset(256, block_rows=256)
    lane = make_lane(dataset, lanes=1, window_blocks=1, weights=lambda _: np.full(256, 0.5))
    first, second = (set(lane.window(epoch).row_E.tolist()) for epoch in (0, 1))
    assert 90 < len(first) < 166
    assert 0.3 < len(first & second) / len(first) < 0.7


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(10, np.nan), "mix_window: weights must be finite and at least 0, got nan in row 0 of block"),
        (np.full(10, -1), "mix_window: weights must be finite and at least 0, got -1 in row 0 of block"),
        (np.ones(9), r"weights of block \d must be one for each of its 10 images, got shape \(9,\); correct"),
        (1.0, r"weights of block \d must be one for each of its 10 images, got shape \(\); correct"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    lane = make_lane(MadeDataset(100, block_rows=10), lanes=1, weights=lambda _: weights)
    with pytest.raises(ValueError, match=message):
        lane.window(0)


def test_a_dataset_without_images_is_refused():
    with pytest.raises(ValueError, match="blocks must be 1 to 2\\*\\*62, got 0; take a dataset with images"):
        make_lane(MadeDataset(0), lanes=1).window(0)


def test_weights_that_drop_everything_are_an_error():
    lane = make_lane(MadeDataset(100, block_rows=10), lanes=1, weights=lambda _: np.zeros(10))
    with pytest.raises(ValueError, match="weights must keep some images, got 1000 empty windows"):
        make_packer(lane).next_pack(LaneState())


def test_windows_without_images_are_passed_over():
    dataset = MadeDataset(1000, block_rows=10)
    lane = make_lane(
        dataset, lanes=1, window_blocks=1, pack_tokens=2048, weights=lambda b: np.full(10, float(b % 10 == 0))
    )
    packer, state = make_packer(lane, FEW_VIEWS), LaneState()
    for _ in range(10):
        pack, state = packer.next_pack(state)
        assert pack.n_images
        assert (pack.block_I % 10 == 0).all()


def test_three_billion_images_take_neither_time_nor_memory():
    lane = make_lane(MadeDataset(FAR), 5, lanes=64, window_blocks=4, pack_tokens=16384)
    begin = time.process_time()
    pack, after = make_packer(lane).next_pack(LaneState(window=10**6, index=100))
    assert time.process_time() - begin < 1.5
    assert pack.fill > 0.9
    assert after.window == 10**6
    assert (pack.visit_I == (5 + 64 * 4 * 10**6) // (-(-FAR // 512))).all()

    # Small windows, so that many of them pass.
    lane = make_lane(MadeDataset(FAR, block_rows=64), 5, lanes=64, window_blocks=1, pack_tokens=4096)
    packer, state = make_packer(lane, FEW_VIEWS), LaneState(window=10**6)
    for _ in range(20):
        _, state = packer.next_pack(state)
    window = state.window
    tracemalloc.start()
    try:
        for _ in range(200):
            _, state = packer.next_pack(state)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert state.window > window + 100
    assert kept < 1e6  # three planned windows of 64 images
    assert peak < 20e6


PLAN_FAR = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/plan")
from made_sizes import FAR, MadeDataset, make_lane, make_packer
lane = make_lane(MadeDataset(FAR), 5, lanes=64, window_blocks=4)
for window in range(10):
    lane.window(10**6 + window)
status = Path("/proc/self/status")  # Linux only; elsewhere the modules tell
lines = status.read_text().splitlines() if status.exists() else []
print(*(line.split()[1] for line in lines if line.startswith("VmHWM")), *sys.modules)
"""


def test_planning_three_billion_images_loads_little_and_stays_small():
    command = [sys.executable, "-c", PLAN_FAR]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    words = ran.stdout.split()
    assert not {"torch", "pyarrow", "PIL", "sklearn"} & set(words)
    assert "aqqua.plan.pack" in words
    assert all(int(peak_kb) < 100_000 for peak_kb in words if peak_kb.isdigit())


def test_ranks_share_the_lanes():
    for ranks in (1, 2, 4, 8):
        shares = [list(lanes_of_rank(8, rank, ranks)) for rank in range(ranks)]
        assert sorted(lane for share in shares for lane in share) == list(range(8))
        assert {len(share) for share in shares} == {8 // ranks}


@pytest.mark.parametrize(("rank", "ranks"), [(0, 3), (2, 2), (-1, 2), (0, 0), (0, 16)])
def test_ranks_that_do_not_divide_the_lanes_are_an_error(rank, ranks):
    with pytest.raises(ValueError, match=f"ranks must divide lanes, got rank {rank} of {ranks} and 8 lanes"):
        lanes_of_rank(8, rank, ranks)


@pytest.mark.parametrize("wrong", [{"lanes": 0}, {"window_blocks": 65}, {"pack_tokens": 63}, {"lane": 1}])
def test_a_wrong_config_is_refused(wrong):
    with pytest.raises(ValidationError):
        LaneConfig(**wrong)
