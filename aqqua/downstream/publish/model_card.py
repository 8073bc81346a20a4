"""The card of a model, from its run: what it was trained on, how, at which cost, how well, and with which
limits.

Everything is read from the run's own files and from evaluations that are given; what is not there is said to
be unknown. Nothing of the run is changed. Texts of others (instruments, licences, commands) are escaped.
Test: tests/downstream/publish/test_model_card.py.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aqqua.config import to_yaml
from aqqua.cost.parameters import network_parameters
from aqqua.downstream.publish.data_mix import data_lines, data_mix
from aqqua.downstream.publish.markdown import code, plain, table
from aqqua.downstream.publish.preprocessing import steps
from aqqua.evaluate.models import run_config
from aqqua.store.new_file import new_file
from aqqua.train.folder import ENVIRONMENT
from aqqua.train.settings import PretrainConfig
from aqqua.train.usage import JOULES_PER_KWH, USAGE, read_sessions

WHO = "model card"
METRICS = "metrics.jsonl"
UNKNOWN = "unknown"
LIMITS = (
    "Features were learnt without labels. What they say of a taxon must be judged on labelled images of "
    "the same "
    "instrument, region and season before it is used.",
    "A size in micrometres is only as right as the micrometres per pixel that are given; where they are "
    "unknown, "
    "the model does not know the size either.",
    "Images of an instrument that is not in the table of the data may lie far from everything the model "
    "has seen.",
    "Numbers per litre or per cubic metre need the volume of water sampled; the model does not know it.",
)


@dataclass(frozen=True)
class CardFacts:
    """What only people can say."""

    name: str
    licence: str  # of the weights, an SPDX name such as cc-by-nc-4.0
    contact: str = ""
    limits: tuple[str, ...] = ()  # beside LIMITS

    def __post_init__(self) -> None:
        for name in ("name", "licence"):
            if not getattr(self, name).strip():
                raise ValueError(
                    f"{WHO}: {name} must be told, got nothing; nobody may use what has no {name}"
                )


def write_model_card(
    run: Path,
    out: Path,
    facts: CardFacts,
    *,
    dataset: Path | None = None,
    evaluations: Sequence[Path] = (),
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the card of a run as Markdown with YAML front matter, as Hugging Face wants a README.md.

    Args:
        run: folder of a run.
        out: new file.
        facts: that only people know.
        dataset: where the training data lies now; None: where it lay.
        evaluations: JSON files of aqqua evaluate.
        progress: called with the images of the dataset that are counted.

    Raises:
        ValueError: the folder is no run, an evaluation is none, or the file exists.
    """
    config = run_config(run)
    if config is None:
        raise ValueError(f"{WHO}: the folder must be a run, got {run}; see aqqua pretrain")
    found = [_evaluation(path) for path in evaluations]
    mix = data_mix(dataset or config.data.path, progress)
    parts = (
        _front(facts, config),
        _head(facts, config),
        data_lines(mix, _environment(run).get("dataset_sha256") or UNKNOWN),
        _scale(config),
        _architecture(config),
        _training(run, config),
        _results(found),
        _limits(facts),
        _usage(facts),
    )
    with new_file(out, WHO) as partial:
        partial.write_text("\n\n".join("\n".join(part) for part in parts) + "\n", encoding="utf-8")


def _evaluation(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{WHO}: an evaluation must be a JSON file, got {path}: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("scores"), dict):
        raise ValueError(
            f"{WHO}: an evaluation must be JSON of aqqua evaluate with scores, got {path}; give another"
        )
    return path.name, found


def _front(facts: CardFacts, config: PretrainConfig) -> list[str]:
    front = {
        "license": facts.licence,
        "library_name": "aqqua",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["plankton", "self-supervised", "vision-transformer", f"patch-{config.model.patch_px}"],
    }
    return ["---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip("\n"), "---"]


def _head(facts: CardFacts, config: PretrainConfig) -> list[str]:
    said = (
        f"A vision transformer for images of plankton, trained by self-distillation (DINO and iBOT) on "
        f"images at their "
        f"native resolution, patches of {config.model.patch_px} px."
    )
    contact = ["", f"Contact: {plain(facts.contact)}"] if facts.contact else []
    return [f"# {plain(facts.name)}", "", said, *contact]


def _scale(config: PretrainConfig) -> list[str]:
    model, low_high = config.model, config.views.scale_jitter
    position = {
        "rope_physical": "the position of a patch is told in micrometres",
        "gsd": "the position of a patch is told at its physical scale",
    }.get(model.position, "the position of a patch does not depend on the scale")
    token = (
        "the CLS token is told the micrometres per pixel"
        if model.scale_token
        else "No token is told the scale"
    )
    return [
        "## Physical scale",
        "",
        f"Images keep their own resolution; nothing is stretched to a square. {token}; "
        f"{position}. In "
        f"training, views were resampled by {low_high[0]:g} to {low_high[1]:g} and their micrometres per "
        f"pixel divided "
        "by the same number, and the scale was hidden at random, so that an unknown one is a value of its "
        "own.",
        "",
        "How an image becomes what the model sees:",
        "",
        *(f"{number}. {plain(step)}" for number, step in enumerate(steps(model, config.views), start=1)),
    ]


def _architecture(config: PretrainConfig) -> list[str]:
    model = config.model
    parameters = network_parameters(model, config.objective).backbone
    rows = [
        ("parameters", f"{parameters / 1e6:.1f} million"),
        ("layers, width, heads", f"{model.layers}, {model.width}, {model.heads}"),
        ("feed-forward", model.ffn),
        ("patch", f"{model.patch_px} px, {model.channels} channel{'s' if model.channels > 1 else ''}"),
        ("registers", model.registers),
        ("position", model.position),
        ("scale token", "yes" if model.scale_token else "no"),
    ]
    return ["## Architecture", "", *table(("what", "value"), rows)]


def _training(run: Path, config: PretrainConfig) -> list[str]:
    environment, last = _environment(run), _last_metrics(run)
    rows: list[tuple[str, object]] = [
        ("steps", last.get("step", UNKNOWN)),
        ("images seen", last.get("images", UNKNOWN)),
        ("started from", config.init.name if config.init else "random weights"),
        ("device", f"{environment.get('device', UNKNOWN)} × {environment.get('ranks', UNKNOWN)} ranks"),
        *_cost(run),
        ("aqqua, commit", f"{environment.get('aqqua', UNKNOWN)}, {environment.get('commit') or UNKNOWN}"),
        ("torch", environment.get("torch", UNKNOWN)),
    ]
    return ["## Training and its cost", "", *table(("what", "value"), rows), "", "Configuration:", "",
            *code(_without_folders(config), "yaml")]  # fmt: skip


def _without_folders(config: PretrainConfig) -> str:
    """The config as YAML; of paths only their last names, for the rest tells of a machine and its people."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(each) for key, each in value.items()}
        if isinstance(value, list):
            return [named(each) for each in value]
        return value.name if isinstance(value, Path) else value

    return to_yaml(PretrainConfig.model_validate(named(config.model_dump()))).rstrip("\n")


def _cost(run: Path) -> list[tuple[str, object]]:
    sessions = list(read_sessions(run / USAGE).values())
    if not sessions:
        return [("GPU-hours", "none counted: the run had no GPU"), ("energy", UNKNOWN)]
    hours = sum(one.gpu_s for one in sessions) / 3600
    known = [one.joules for one in sessions if one.joules is not None]
    energy = f"{sum(known) / JOULES_PER_KWH:.3g} kWh by the GPUs, by NVML"
    if len(known) < len(sessions):
        energy = f"at least {energy}; {len(sessions) - len(known)} of {len(sessions)} sessions do not tell"
    return [
        ("GPU-hours", f"{hours:.2f} in {len(sessions)} session{'s' if len(sessions) > 1 else ''}"),
        ("energy", energy if known else UNKNOWN),
    ]


def _results(found: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    lines = ["## Results", ""]
    if not found:
        return [*lines, "No evaluation was given for this card."]
    for name, values in found:
        lines += [f"### {plain(values.get('suite') or values.get('data') or name)}", ""]
        single = {k: v for k, v in values.items() if isinstance(v, str | int | float) and k != "command"}
        said = "; ".join(f"{plain(k)} {plain(_short(v))}" for k, v in single.items())
        lines += [f"From {plain(name)}: {said}", ""]
        lines += [*table(("what", "metric", "value"), list(_leaves(values["scores"]))), ""]
        if isinstance(values.get("command"), str):
            lines += [*code(values["command"], "sh"), ""]
    return lines[:-1]


def _leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """The single numbers of nested scores; lists (per class, confusion) stay in the file."""
    for name, value in values.items():
        if isinstance(value, dict) and "value" in value:  # a figure with its interval
            yield " · ".join(part for part in path if part != "figures"), name, _with_interval(value)
        elif isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield " · ".join(path), name, _short(value)


def _with_interval(figure: dict[str, Any]) -> str:
    """0.32 (0.1 to 0.57)."""
    low, high = figure.get("low"), figure.get("high")
    ends = "" if low is None or high is None else f" ({_short(low)} to {_short(high)})"
    return f"{_short(figure['value'])}{ends}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _limits(facts: CardFacts) -> list[str]:
    return ["## Limits", "", *(f"- {plain(limit)}" for limit in (*LIMITS, *facts.limits))]


def _usage(facts: CardFacts) -> list[str]:
    commands = "\n".join((
        "aqqua embed model.safetensors --data DATASET --out embeddings.parquet",
        "aqqua evaluate model.safetensors --data DATASET",
        "aqqua export model.safetensors --format onnx --out model.onnx",
    ))  # fmt: skip
    return [
        "## How to use",
        "",
        *code(commands, "sh"),
        "",
        f"Licence of the weights: {plain(facts.licence)}.",
    ]


def _environment(run: Path) -> dict[str, Any]:
    return (
        _json_or_nothing((run / ENVIRONMENT).read_text(encoding="utf-8"))
        if (run / ENVIRONMENT).exists()
        else {}
    )


def _last_metrics(run: Path) -> dict[str, Any]:
    path = run / METRICS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return next((found for line in reversed(lines) if (found := _json_or_nothing(line))), {})


def _json_or_nothing(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
