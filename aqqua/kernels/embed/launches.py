"""Every kernel of embed as training launches it, for offline compilation."""

from collections.abc import Iterator

from aqqua.kernels.embed import kernel
from aqqua.kernels.embed.op import FORWARD_ROWS, FORWARD_TILE, FRACTIONS_TILE, TILE, position_block
from aqqua.kernels.offline import Launch

WIDTHS = (192, 1024)  # the last block of columns half empty, and full; others change a factor of the code
PRECISIONS = (("fp32", "bf16"), ("bf16", "bf16"), ("fp32", "fp32"))  # of tokens and of rows
POSITIONS = (16, 37)  # of a fractional table
_TABLES = {"offsets_ptr": "*i32", "view_ptr": "*i64"}


def launches() -> list[Launch]:
    """Each width and precision with everything on; sums at width 1024."""
    found = []
    for tokens, rows in PRECISIONS:
        for width in WIDTHS:
            found += [_forward(kind, width, tokens, rows) for kind in FORWARD_ROWS]
            found += [_patches(sine, width, tokens, rows) for sine in (False, True)]
    for tokens in dict.fromkeys(tokens for tokens, _ in PRECISIONS):
        found += _sums(1024, tokens)
        found += [_fractions(width, positions, tokens) for width in WIDTHS for positions in POSITIONS]
    return found


def _launch(name: str, function, signature: dict[str, str], tile: dict[str, int], **constants) -> Launch:
    sizes = {key: value for key, value in tile.items() if key != "num_warps"}
    return Launch(f"embed {name}", function, signature, {**sizes, **constants}, num_warps=tile["num_warps"])


def _forward(kind: str, width: int, tokens: str, rows: str) -> Launch:
    other, of_view = ("*fp32", "*fp32") if kind == "sine" else (f"*{tokens}", "*i32")
    code = rows if kind == "grid" else tokens  # autocast resizes the table in the type of the products
    signature = {
        "rows_ptr": f"*{rows}", "bias_ptr": f"*{tokens}", "masked_ptr": "*u8", "mask_ptr": f"*{tokens}",
        "cls_ptr": f"*{tokens}", "scale_ptr": f"*{tokens}", "registers_ptr": f"*{tokens}",
        "code_ptr": f"*{code}", "other_ptr": other, "of_view_ptr": of_view, "grids_ptr": "*i32",
        **_TABLES, "x_ptr": f"*{tokens}", "T": "i32", "R": "i32", "M": "i32",
    }  # fmt: skip
    flags = {"GRID": kind == "grid", "FRACTIONS": kind == "fractions", "SINE": kind == "sine"}
    name = f"forward, {kind}, D {width}, {tokens} tokens, {rows} rows"
    constants = {"BIAS": True, "MASK": True, "SCALE": True, **flags}
    tile = {"ROWS": FORWARD_ROWS[kind], **FORWARD_TILE}
    return _launch(name, kernel.forward_kernel, signature, tile, D=width, **constants)


def _patches(sine: bool, width: int, tokens: str, rows: str) -> Launch:
    signature = {
        "dx_ptr": f"*{tokens}", "masked_ptr": "*u8", "relative_ptr": "*fp32", **_TABLES,
        "drows_ptr": f"*{rows}", "partial_ptr": "*fp32", "T": "i32", "R": "i32",
    }  # fmt: skip
    name = f"patches backward, {'sine' if sine else 'other'}, D {width}, {tokens} tokens, {rows} rows"
    return _launch(name, kernel.patches_backward_kernel, signature, TILE, D=width, MASK=True, SINE=sine)


def _sums(width: int, tokens: str) -> Iterator[Launch]:
    signature = {
        "dx_ptr": f"*{tokens}", "offsets_ptr": "*i32", "dscale_ptr": f"*{tokens}", "partial_ptr": "*fp32",
        "V": "i32", "R": "i32",
    }  # fmt: skip
    name = f"prefix backward, D {width}, {tokens}"
    yield _launch(name, kernel.prefix_backward_kernel, signature, TILE, D=width, SCALE=True)
    tables = {"list_ptr": "*i32", "lists_ptr": "*i32", "starts_ptr": "*i32", "out_ptr": "*fp32"}
    signature = {"rows_ptr": f"*{tokens}", **tables, "P": "i32"}
    yield _launch(f"sums of rows, D {width}, {tokens}", kernel.sum_rows_kernel, signature, TILE, D=width)


def _fractions(width: int, positions: int, tokens: str) -> Launch:
    signature = {
        "dx_ptr": f"*{tokens}", "grids_ptr": "*i32", **_TABLES, "partial_ptr": "*fp32",
        "T": "i32", "R": "i32", "M": "i32",
    }  # fmt: skip
    name = f"fractions backward, D {width}, M {positions}, {tokens}"
    sizes = {"D": width, "BLOCK_M": position_block(positions)}
    return _launch(name, kernel.fractions_backward_kernel, signature, FRACTIONS_TILE, **sizes)
