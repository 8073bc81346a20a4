"""From what was asked for on the command line to a contender.

    PATH                                a run, one of its checkpoints, or an exported .safetensors file
    untrained:PATH                      the same architecture with fresh weights
    timm:NAME                           a model of timm whose weights were fetched before
    timm:NAME?weights=FILE.safetensors  with these weights
    timm:NAME@random                    untrained
    hf:FOLDER                           a model saved by transformers
    pixels, handcrafted                 baselines

timm and hf take `size=PX` and `stretch=yes` after a question mark, joined by &.
Test: tests/evaluate/contenders/test_opening.py.
"""

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
from aqqua.evaluate.models import load_embedder, run_config, untrained

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
        return Native(load_embedder(Path(spec), pooling, device), spec)
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
        unknown = [key for key in given if key not in allowed]
        size = int(given.get("size", 1))
        if unknown or size < 1 or given.get("stretch", "yes") != "yes":
            raise ValueError("an option that is not known, or a value it cannot have")
    except ValueError as error:
        raise ValueError(
            f"contender: options must be of {', '.join(allowed)} (size in pixels, stretch=yes), got {spec!r}"
            "; write for example ?size=224&stretch=yes"
        ) from error
    made: dict[str, Any] = {"stretch": True} if "stretch" in given else {}
    if "size" in given:
        made["size"] = size
    if "weights" in given:
        made["weights"] = Path(given["weights"])
    return made
