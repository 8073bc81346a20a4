"""The two graphs: files to pages, and pages with their plan to patch rows. Pure functions of graph nodes.

Letters: H, W rows and columns of an image or view, C channels, P patch side, K specks, F = P·P·C.
Test: tests/dali_pipelines/test_decode.py, test_dali_renderer.py.
"""

from collections.abc import Mapping

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from dali_pipelines import augment

# What a batch of views brings beside its pages; each value has the shape given for one view.
VIEW_INPUTS: dict[str, tuple[types.DALIDataType, int]] = {
    "background": (types.FLOAT, 3),  # [1, 1, C], in [0, 1]
    "start": (types.INT32, 1),  # [2] first row and column of the grown page, px of the page: not above 0
    "grown": (types.INT32, 1),  # [2] sides of the grown page
    "window": (types.INT32, 1),  # [1] taps of the Gaussian; 1: no blur
    "sigma": (types.FLOAT, 1),  # [1] source px
    "map": (types.FLOAT, 2),  # [2, 3] output px -> px of the grown page
    "size": (types.FLOAT, 1),  # [2] rows and columns of the view, px
    "scale": (types.FLOAT, 3),  # [1, 1, 1]
    "bias": (types.FLOAT, 3),  # [1, 1, C]
    "fold": (types.FLOAT, 3),  # [1, 1, C]
    "noise": (types.FLOAT, 3),  # [1, 1, 1]
    "low": (types.UINT32, 3),  # [1, 1, 1] half of the key of the view's noise
    "high": (types.UINT32, 3),
    "row": (types.UINT32, 3),  # [H, 1, 1] number of the row, 0 to H - 1
    "column": (types.UINT32, 3),  # [1, W, 1]
    "columns": (types.UINT32, 3),  # [1, 1, 1] W
    "cut": (types.INT32, 1),  # [4] patch rows, P, patch columns, P · C
    "rows": (types.INT32, 1),  # [2] patches, F
}


def view_inputs_of(specks: int, mixed: bool) -> dict[str, tuple[types.DALIDataType, int]]:
    """VIEW_INPUTS of views with so many specks, [4] each, and a colour matrix [3, 3] where colours mix."""
    covering = {f"speck{k}": (types.FLOAT, 1) for k in range(specks)}
    return {**VIEW_INPUTS, **covering, **({"colour": (types.FLOAT, 2)} if mixed else {})}


def decode_graph(files: DataNode, *, channels: int, bits: int, mixed: bool) -> DataNode:
    """Files to pages [H, W, channels] at their own size, as they are stored.

    The channels are asked for by name: with output_type=ANY_DATA, DALI 2.4.0 writes three channels of a grey
    JPEG into room for one (memory corruption, seen as a crash).

    Args:
        files: whole files, [bytes] uint8.
        channels: of every file, 1 or 3.
        bits: of every file, 8 or 16.
        mixed: JPEG on the GPU. It then upsamples chroma as libjpeg does.
    """
    on_device = {
        "jpeg_fancy_upsampling": True,
        # DALI would set aside room per thread for images of 8 megabytes; ours have some kilobytes, and the
        # room grows when a larger one comes.
        "device_memory_padding": 0,
        "host_memory_padding": 0,
        # Threads tied to cores would be tied to the same ones by every rank of a node.
        "affine": False,
    }
    return fn.decoders.image(
        files,
        device="mixed" if mixed else "cpu",
        output_type=types.GRAY if channels == 1 else types.RGB,
        dtype=types.UINT16 if bits == 16 else types.UINT8,
        use_fast_idct=False,
        adjust_orientation=False,
        **(on_device if mixed else {}),
    )


def render_graph(
    page: DataNode,
    view: Mapping[str, DataNode],
    *,
    bits: int,
    stored: int,
    channels: int,
    specks: int,
    mixed: bool,
) -> DataNode:
    """One view of each page as patch rows [patches, F].

    Args:
        page: [H, W, stored] uint8 or uint16.
        view: the plan of each view, `view_inputs_of(specks, mixed)`.
        bits: of the pages.
        stored: channels of the pages.
        channels: of the model.
        specks: most of a view, K.
        mixed: the views have colour matrices; for a model of 3 channels.
    """
    values = augment.unit(page, bits)
    values = augment.to_channels(values, stored, channels)
    values = augment.difference(values, view["background"])
    values = augment.blur(values, view["start"], view["grown"], view["window"], view["sigma"])
    values = augment.sample(values, view["map"], view["size"]) + view["background"]
    x, y = (fn.cast(view[name], dtype=types.FLOAT) + 0.5 for name in ("column", "row"))
    for k in range(specks):
        values = augment.occlude(values, view[f"speck{k}"], x, y)
    if mixed:
        values = augment.colour(values, view["colour"])
    values = augment.light(values, view["scale"], view["bias"])
    values = augment.fold(values, view["fold"])
    key = (view["low"], view["high"])
    pixel = augment.pixel_number(view["row"], view["column"], view["columns"])
    values = augment.add_noise(values, view["noise"], key, pixel)
    return augment.patch_rows(values, view["cut"], view["rows"])
