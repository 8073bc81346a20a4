"""The packing of views: rows, places and subsets against a plain loop over views."""

import pytest
import torch

from aqqua.model.sequences import Sequences

GRIDS = torch.tensor([[2, 3], [1, 1], [4, 1], [2, 3]])
PREFIX = 3


@pytest.fixture
def sequences(device):
    um = torch.tensor([1.0, float("nan"), 88.0, 0.3])
    return Sequences.from_grids(GRIDS, um, patch_px=8, prefix=PREFIX, device=device)


def test_rows_and_places_equal_a_loop_over_views(sequences):
    patch_rows, view_n, view_t, places, sides, cls_rows, at = [], [], [], [], [], [], 0
    for view, (rows, columns) in enumerate(GRIDS.tolist()):
        cls_rows.append(at)
        view_t += [view] * (PREFIX + rows * columns)
        at += PREFIX
        for r in range(rows):
            for c in range(columns):
                patch_rows.append(at)
                view_n.append(view)
                places.append([r, c])
                sides.append([rows, columns])
                at += 1
    assert sequences.tokens == at
    assert sequences.patches == len(places)
    assert sequences.offsets_V1.tolist() == [*cls_rows, at]
    assert sequences.offsets_V1.dtype == torch.int32
    assert sequences.cls_rows_V.tolist() == cls_rows
    assert sequences.patch_rows_N.tolist() == patch_rows
    assert sequences.view_N.tolist() == view_n
    assert sequences.view_T.tolist() == view_t
    assert sequences.rc_N2.tolist() == places
    assert sequences.sides_N2.tolist() == sides
    assert sequences.lengths.tolist() == [9, 4, 7, 9]
    assert sequences.max_length == 9


def test_prefix_and_patch_rows_cover_every_token_once(sequences):
    rows = torch.cat((sequences.prefix_rows_VR.flatten(), sequences.patch_rows_N))
    assert rows.sort().values.tolist() == list(range(sequences.tokens))


def test_select_is_the_packing_of_the_chosen_views(sequences, device):
    chosen = torch.tensor([3, 1])
    part, rows = sequences.select(chosen)
    alone = Sequences.from_grids(GRIDS[chosen], torch.tensor([0.3, float("nan")]), 8, PREFIX, device)
    assert part.offsets_V1.tolist() == alone.offsets_V1.tolist()
    assert part.lengths.tolist() == alone.lengths.tolist()
    assert part.rc_N2.tolist() == alone.rc_N2.tolist()
    torch.testing.assert_close(part.um_per_px_V, alone.um_per_px_V, equal_nan=True)
    starts = sequences.offsets_V1.tolist()
    assert rows.tolist() == [*range(starts[3], starts[4]), *range(starts[1], starts[2])]


def test_98_px_at_patch_14_is_50_tokens():
    one = Sequences.from_grids(torch.tensor([[98 // 14, 98 // 14]]), torch.tensor([1.0]), 14, prefix=1)
    assert one.tokens == 50


def test_hidden_scale_is_unknown_and_the_rest_stays(sequences, device):
    hidden = sequences.hide_scale(torch.tensor([True, False, False, True], device=device))
    assert hidden.um_per_px_V.isnan().tolist() == [True, True, False, True]
    assert sequences.um_per_px_V.isnan().tolist() == [False, True, False, False]
    assert hidden.tokens == sequences.tokens


@pytest.mark.parametrize(
    ("grids", "um", "prefix", "message"),
    [
        ([[2, 0]], [1.0], 1, "every view a patch"),
        ([], [], 1, "must hold a view"),
        ([[1, 1]], [0.0], 1, "µm/px must be positive or NaN"),
        ([[1, 1]], [1.0], 0, "prefix must"),
    ],
)
def test_impossible_packings_are_refused(grids, um, prefix, message):
    with pytest.raises(ValueError, match=message):
        Sequences.from_grids(
            torch.tensor(grids, dtype=torch.long).reshape(-1, 2), torch.tensor(um), 8, prefix
        )
