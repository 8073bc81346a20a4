"""The verb that hands things to others: export, of a model or of a dataset."""

import argparse
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_verb, answer

FORMATS = ("safetensors", "teacher", "hugging-face", "onnx", "model-card", "aqqua-release")


def add_export(verbs: Any) -> None:
    """Declare `aqqua export`."""
    parser = add_verb(verbs, "export", _run_export, "a model or a dataset in a form for others",
                      "aqqua export runs/first --out model.safetensors")  # fmt: skip
    parser.add_argument(
        "what", type=Path, help="run, checkpoint, .safetensors file, or (aqqua-release) a dataset"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="safetensors",
        help="safetensors: the teacher's backbone as one file; teacher: with its heads, for distill.teacher; "
        "hugging-face: a folder for transformers; "
        "onnx: one file for other software; model-card: what it is, as Markdown; aqqua-release: images in "
        "LMDB, metadata in Parquet",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, help="new file, or folder (hugging-face, aqqua-release)"
    )
    card = parser.add_argument_group("model-card")
    card.add_argument("--name", dest="called", default="", help="of the model")
    card.add_argument("--licence", default="", help="of the weights, for example cc-by-nc-4.0")
    card.add_argument("--contact", default="", help="whom to ask")
    card.add_argument(
        "--limit", action="append", default=[], help="what it should not be used for; repeatable"
    )
    card.add_argument("--data", type=Path, help="where the training data lies now, if it was moved")
    card.add_argument("--evaluation", type=Path, action="append", default=[],
                      help="JSON of aqqua evaluate --out; repeatable")  # fmt: skip


def _run_export(parsed: argparse.Namespace) -> int:
    if parsed.format == "model-card":
        about = _model_card(parsed)
    else:
        writers = {
            "safetensors": _safetensors,
            "teacher": _teacher,
            "hugging-face": _hugging_face,
            "onnx": _onnx,
            "aqqua-release": _aqqua_release,
        }
        about = writers[parsed.format](parsed.what, parsed.out)
    size = sum(file.stat().st_size for file in (parsed.out, *parsed.out.rglob("*")) if file.is_file())
    answer(parsed, {"out": str(parsed.out), **about}, [f"{parsed.out}: {size / 1e6:.1f} MB"])
    return 0


def _safetensors(model: Path, out: Path) -> dict[str, Any]:
    from aqqua.evaluate.models import load_embedder, save_embedder

    save_embedder(load_embedder(model), out)
    return {}


def _teacher(run: Path, out: Path) -> dict[str, Any]:
    _must_be_new(out)
    from aqqua.train.distill import find_teacher, save_teacher

    save_teacher(out, find_teacher(run))
    return {}


def _hugging_face(model: Path, out: Path) -> dict[str, Any]:
    _must_be_new(out)
    from aqqua.evaluate.models import load_embedder
    from aqqua.model.weights import export_hugging_face

    export_hugging_face(out, load_embedder(model).backbone)
    return {}


def _onnx(model: Path, out: Path) -> dict[str, Any]:
    import torch

    from aqqua.downstream.publish.onnx import export_onnx
    from aqqua.evaluate.models import load_embedder

    embedder = load_embedder(model, device=torch.device("cpu"))
    export_onnx(out, embedder.backbone, embedder.views)
    return {}


def _model_card(parsed: argparse.Namespace) -> dict[str, Any]:
    from aqqua.downstream.publish.model_card import CardFacts, write_model_card

    facts = CardFacts(parsed.called, parsed.licence, parsed.contact, tuple(parsed.limit))
    write_model_card(parsed.what, parsed.out, facts, dataset=parsed.data, evaluations=parsed.evaluation)
    return {}


def _aqqua_release(dataset: Path, out: Path) -> dict[str, Any]:
    _must_be_new(out)
    from aqqua.progress import Bar
    from aqqua.store.read import Dataset
    from aqqua.store.release import export_release

    opened = Dataset.open(dataset)
    with Bar("export", opened.rows, "images") as bar:
        return {"images": export_release(opened, out, lambda done: bar.update(done))}


def _must_be_new(out: Path) -> None:
    if out.exists():
        raise ValueError(
            f"export: the output must not exist yet, got {out}; choose another name or remove it"
        )
