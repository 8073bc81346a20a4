"""From what was asked for on the command line to a contender.

    PATH                                a run, one of its checkpoints, or an exported .safetensors file
    PATH?um_per_px=x2                   the same, told a wrong scale: twice the true one
    PATH?um_per_px=unknown              the same, not told the scale
    PATH?patch_px=8                     the same, at another side of the patches
    untrained:PATH                      the same architecture with fresh weights
    timm:NAME                           a model of timm whose weights were fetched before
    timm:NAME?weights=FILE.safetensors  with these weights
    timm:NAME@random                    untrained
    hf:FOLDER                           a model saved by transformers
    pixels, handcrafted                 baselines

timm and hf take `size=PX` and `stretch=yes` after a question mark, joined by &.
Test: tests/evaluate/contenders/test_opening.py.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import torch

from aqqua.evaluate.contenders.contender import Contender
from aqqua.evaluate.contenders.handcrafted import Handcrafted
from aqqua.evaluate.contenders.hugging_face import open_hugging_face
from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.contenders.pixels import Pixels
from aqqua.evaluate.contenders.timm_model import TimmAsked, open_timm
from aqqua.evaluate.features import Pooling
from aqqua.evaluate.models import load_embedder, path_in, run_config, untrained

BASELINES: dict[str, type[Pixels | Handcrafted]] = {"pixels": Pixels, "handcrafted": Handcrafted}


def open_contender(spec: str, pooling: Pooling = "cls", device: torch.device | None = None) -> Contender:
    """The contender that `spec` means; see the module.

    Args:
        pooling: what becomes the feature of an image: cls (of a model without CLS, what it pools itself),
            the mean of its patches, or both. Baselines have none.
        device: None: the best there is.

    Raises:
        ValueError: `spec` means nothing that can be opened; the message says what to write.
        RuntimeError: a package is missing.
    """
    if spec in BASELINES:
        return BASELINES[spec]()
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in ("untrained", "timm", "hf"):
        options = _options(spec, spec.partition("?")[2], ("um_per_px", "patch_px"))
        embedder = load_embedder(path_in(spec), pooling, device, options.get("patch_px"))
        return Native(replace(embedder, told_times=options.get("um_per_px", 1.0)), spec)
    if not rest:
        raise ValueError(f"contender: something must follow {kind}:, got nothing; give a path or a name")
    if kind == "untrained":
        config = run_config(Path(rest))
        trained = load_embedder(Path(rest), pooling, device)
        return Native(untrained(trained, config.seed if config else 0), spec, "untrained")
    what, _, query = rest.partition("?")
    options = _options(spec, query, ("weights", "size", "stretch") if kind == "timm" else ("size", "stretch"))
    if kind == "hf":
        return open_hugging_face(Path(what), spec, pooling, device, options.get("size"), "stretch" in options)
    model, at, fresh = what.partition("@")
    if at and (fresh != "random" or "weights" in options):
        raise ValueError(
            f"contender: after @ only random, and then no weights, may stand, got {spec!r}; write "
            f"timm:{model}@random or timm:{model}?weights=FILE.safetensors"
        )
    asked = TimmAsked(model, options.get("weights"), bool(at), options.get("size"), "stretch" in options)
    return open_timm(asked, spec, pooling, device)


def _options(spec: str, query: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """What stands after the question mark, checked."""
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        if unknown := [key for key in given if key not in allowed]:
            raise ValueError(f"{unknown[0]} is none of them")
        return {key: _READERS[key](value) for key, value in given.items()}
    except ValueError as error:
        examples = " or ".join(_EXAMPLES[key] for key in allowed)
        raise ValueError(
            f"contender: options must be of {', '.join(allowed)}, got {spec!r} ({error}); write for example "
            f"{examples}"
        ) from error


def _size_px(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ValueError("size must be pixels")
    return int(value)


def _patch_px(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ValueError("patch_px must be pixels")
    return int(value)


def _yes(value: str) -> bool:
    if value != "yes":
        raise ValueError("stretch must be yes")
    return True


def _told_times(value: str) -> float:
    """x2 -> 2.0; unknown -> NaN."""
    if value == "unknown":
        return math.nan
    times = float(value.removeprefix("x")) if value.startswith("x") else math.nan
    if not 1e-6 <= times <= 1e6:
        raise ValueError("um_per_px must be unknown, or x and a factor")
    return times


_READERS: dict[str, Callable[[str], Any]] = {
    "size": _size_px, "stretch": _yes, "weights": Path, "um_per_px": _told_times,
    "patch_px": _patch_px,
}  # fmt: skip
_EXAMPLES = {
    "size": "?size=224", "stretch": "?stretch=yes", "weights": "?weights=FILE.safetensors",
    "um_per_px": "?um_per_px=unknown or ?um_per_px=x2", "patch_px": "?patch_px=8",
}  # fmt: skip
