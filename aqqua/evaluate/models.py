"""Finding the model that a path means: a run's teacher, one of its checkpoints, or an exported file."""

from dataclasses import replace
from pathlib import Path

import torch

from aqqua.config import load_config
from aqqua.evaluate.features import Embedder, Pooling
from aqqua.model.vit import VisionTransformer
from aqqua.model.weights import load_model, read_about, save_model
from aqqua.plan.view_config import MOST_PATCH_PX, ViewConfig
from aqqua.train import checkpoint
from aqqua.train.folder import CHECKPOINTS, CONFIG
from aqqua.train.settings import PretrainConfig

_TEACHER = "teacher.backbone."
VIEWS_KEY = "aqqua.views"


def load_embedder(
    path: Path,
    pooling: Pooling = "cls",
    device: torch.device | None = None,
    patch_px: int | None = None,
) -> Embedder:
    """The teacher's backbone.

    Args:
        path: a run (its newest whole checkpoint), one checkpoint of a run, or an exported file.
        pooling: what becomes the feature of an image.
        device: None: the best there is.
        patch_px: side of the patches, 1 to 64; None: the side that the weight is stored for. For others the
            run should have learned several (views.patch_choices).

    Raises:
        ValueError: the path is none of these, or the side is out of range.
    """
    if patch_px is not None and not 1 <= patch_px <= MOST_PATCH_PX:
        raise ValueError(f"model: patch_px must be 1 to {MOST_PATCH_PX}, got {patch_px}; 8 to 16 are usual")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone, views = _from_run(path) if path.is_dir() else _from_file(path)
    return Embedder(backbone.to(device).eval(), views, pooling, device, patch_px=patch_px)


def untrained(embedder: Embedder, seed: int) -> Embedder:
    """The same architecture with fresh weights: the baseline that shows what training added."""
    torch.manual_seed(seed)
    backbone = VisionTransformer(embedder.backbone.config).to(embedder.device).eval()
    return replace(embedder, backbone=backbone)


def run_config(path: Path) -> PretrainConfig | None:
    """The config of a run, or of the run of a checkpoint; None for an exported file."""
    file = run_folder(path) / CONFIG
    return load_config(PretrainConfig, file) if path.is_dir() and file.exists() else None


def save_embedder(embedder: Embedder, out: Path) -> None:
    """Backbone, its config and how images are shown to it, as one safetensors file.

    Raises:
        ValueError: `out` exists, or is not named .safetensors.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"export: the output must be named .safetensors, got {out}; rename it")
    if out.exists():
        raise ValueError(
            f"export: the output must not exist yet, got {out}; choose another name or remove it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    about = {VIEWS_KEY: embedder.views.model_dump_json()}
    save_model(out, embedder.backbone, embedder.backbone.config, about)


def path_in(written: str) -> Path:
    """Of a model that was asked for as PATH, or as PATH?options."""
    return Path(written.partition("?")[0])


def run_folder(path: Path) -> Path:
    """The folder of a run, or of the run of a checkpoint."""
    absolute = path.absolute()
    return absolute.parents[1] if absolute.parent.name == CHECKPOINTS else absolute


def _from_run(path: Path) -> tuple[VisionTransformer, ViewConfig]:
    config, run = run_config(path), run_folder(path)
    if config is None:
        saved = None
    elif run == path.absolute():
        saved = checkpoint.load_newest(run / CHECKPOINTS)
    else:
        saved = checkpoint.load(path)
    if config is None or saved is None:
        raise ValueError(f"model: the folder must be a run with a checkpoint, got {path}; see aqqua pretrain")
    backbone = VisionTransformer(config.model.for_any_machine())
    weights = {k.removeprefix(_TEACHER): v for k, v in saved.tensors.items() if k.startswith(_TEACHER)}
    backbone.load_state_dict(weights)
    return backbone, config.views


def _from_file(path: Path) -> tuple[VisionTransformer, ViewConfig]:
    if not path.exists():
        raise ValueError(f"model: the path must exist, got {path}; give a run folder or a .safetensors file")
    backbone, about = load_model(path), read_about(path)
    return backbone, ViewConfig.model_validate_json(about[VIEWS_KEY]) if VIEWS_KEY in about else ViewConfig()
