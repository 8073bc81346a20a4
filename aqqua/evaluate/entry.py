"""One line of the leaderboard: a model on a suite, as a JSON file that anybody can check and make again.

What a figure means is fixed by the checksums of the suite, of its datasets, of the rows tested on and of the
model, and by the protocol's version; how it was made, by the commit and the command. A file without one of
these is refused, as is one whose seal (the checksum of all else in it) does not fit: it was changed by hand
or is damaged. Test: tests/evaluate/test_entry.py.
"""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aqqua.config import first_error
from aqqua.store.manifest import seal_of
from aqqua.store.new_file import new_file

FORMAT: Literal["aqqua leaderboard entry"] = "aqqua leaderboard entry"
VERSION: Literal[1] = 1
SUFFIX = ".json"
MOST_BYTES = 50_000_000  # of a file from others: 1,000 classes with a full confusion take a tenth of it

_TRIPLE = re.compile(r"\[\s+(\d+),\s+(\d+),\s+(\d+)\s+\]")  # of a confusion, which stands in one line

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Words = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
_Count = Annotated[int, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Figure(_Strict):
    """A metric's value and its 95 % interval over groups of test images, where one can be given."""

    value: float = Field(allow_inf_nan=False)
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> "Figure":
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval must have both ends or none; give low and high")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must be at most high, got {self.low} and {self.high}")
        return self


class ModelFacts(_Strict):
    """What was judged."""

    name: _Words
    kind: _Words = Field(description="aqqua, timm, hugging face, pixels, handcrafted, untrained")
    sha256: _Sha256 = Field(description="of its weights; of its definition, where it has none")
    parameters: _Count
    feature_width: Annotated[int, Field(ge=1)]
    resolution: _Words = Field(description="how large it sees an image, in words")
    gflops_per_image: _Positive | None = Field(description="10⁹ operations of one forward, mean of the test")
    gpu_hours: Annotated[float, Field(ge=0)] | None = Field(description="of its pretraining, where known")
    fine_tuned: bool = False


class SuiteFacts(_Strict):
    """What it was judged on."""

    name: _Words
    protocol: Annotated[int, Field(ge=1)]
    sha256: _Sha256 = Field(description="of the suite's definition, with its label maps")
    datasets: dict[str, _Sha256] = Field(min_length=1, description="name -> seal of dataset.json")
    classes: Annotated[int, Field(ge=1)]


class ClassFigures(_Strict):
    """How one class fared."""

    name: _Words
    support: _Count
    recall: float | None = Field(ge=0, le=1)
    precision: float | None = Field(ge=0, le=1)


class ProbeResult(_Strict):
    """One way to judge the features, in one tier."""

    metrics: dict[str, Figure] = Field(min_length=1)
    classes: list[ClassFigures] = []
    confusion: list[tuple[_Count, _Count, Annotated[int, Field(ge=1)]]] = Field(
        default=[], description="place of the true class, of the predicted one in `classes`, images"
    )

    @model_validator(mode="after")
    def _places(self) -> "ProbeResult":
        far = [pair for pair in self.confusion if max(pair[0], pair[1]) >= len(self.classes)]
        if far:
            raise ValueError(f"confusion must name places below {len(self.classes)}, got {far[0]}")
        return self


class TierResult(_Strict):
    """A split: held-out samples, an unseen region, an unseen instrument."""

    train_images: _Count
    test_images: Annotated[int, Field(ge=1)]
    groups: Annotated[int, Field(ge=1)] = Field(description="of test images, over which intervals are drawn")
    test_rows_sha256: _Sha256
    probes: dict[str, ProbeResult] = Field(min_length=1)


class Overlap(_Strict):
    """Test images that the model's pretraining saw, or saw something nearly the same as."""

    images: _Count
    of: _Count
    left_out: bool


class Entry(_Strict):
    """A model on a suite."""

    format: Literal["aqqua leaderboard entry"] = FORMAT
    version: Literal[1] = VERSION
    model: ModelFacts
    suite: SuiteFacts
    tiers: dict[str, TierResult] = Field(min_length=1)
    seen_in_pretraining: Overlap | None = Field(description="None: not looked at")
    left_out: dict[str, _Count] = Field(description="why images of the datasets are not used")
    commit: _Words = Field(description="of aqqua; ends in -dirty where files were changed")
    aqqua: _Words
    command: _Words
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]


def write_entry(entry: Entry, out: Path) -> None:
    """Write the file, sealed.

    Raises:
        ValueError: there is something at `out`, or it is not named .json.
    """
    values: dict[str, Any] = entry.model_dump(mode="json")
    values["seal"] = seal_of(values)
    text = json.dumps(values, indent=1, ensure_ascii=False)
    with new_file(out, "leaderboard", SUFFIX) as partial:
        partial.write_text(_TRIPLE.sub(r"[\1, \2, \3]", text) + "\n", encoding="utf-8")


def read_entry(path: Path) -> Entry:
    """An entry, checked.

    Raises:
        ValueError: no such file, no entry, something missing in it, or a seal that does not fit.
    """
    if not path.is_file():
        raise ValueError(f"leaderboard: the entry must be a file, got {path}; see aqqua evaluate --out")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"leaderboard: an entry must be at most {MOST_BYTES} bytes, got {path}; drop it")
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"leaderboard: {path} must be JSON, got {error}; evaluate again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f'leaderboard: {path} must say "format": "{FORMAT}"; it is something else')
    seal = values.pop("seal", None)
    try:
        entry = Entry.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = first_error(error)
        raise ValueError(
            f"leaderboard: {path} must hold a good {first.place!r} ({first.says}), got {first.got}; "
            "make it by aqqua evaluate --suite ... --out"
        ) from error
    if seal != seal_of(values):
        found = "none" if seal is None else "another"
        raise ValueError(
            f"leaderboard: {path} must have the seal of what it says, got {found}; it was changed by hand or "
            "is damaged: evaluate again"
        )
    return entry


def read_entries(folders: Iterable[Path]) -> dict[Path, Entry]:
    """The entries of files and folders (all .json below them), by path.

    Raises:
        ValueError: none is found, one is refused, or two are of the same model on the same suite.
    """
    paths = sorted({path for folder in folders for path in _files(folder)})
    if not paths:
        raise ValueError("leaderboard: there must be an entry, got none; make one by aqqua evaluate --suite")
    entries = {path: read_entry(path) for path in paths}
    seen: dict[tuple[object, ...], Path] = {}
    for path, entry in entries.items():
        key = (entry.model.name, entry.model.sha256, entry.model.fine_tuned, *comparable(entry))
        if key in seen:
            raise ValueError(
                f"leaderboard: a model must be judged once on a suite, got {seen[key]} and {path} of "
                f"{entry.model.name}; remove one"
            )
        seen[key] = path
    return entries


def comparable(entry: Entry) -> tuple[object, ...]:
    """Equal for entries whose figures may stand in one table: same suite, protocol, data and test rows."""
    rows = tuple(sorted((name, tier.test_rows_sha256) for name, tier in entry.tiers.items()))
    suite = entry.suite
    return suite.name, suite.protocol, suite.sha256, tuple(sorted(suite.datasets.items())), rows


def figure(value: float, low: float | None = None, high: float | None = None) -> Figure | None:
    """A figure; None for what is no number, which JSON does not know."""
    if not math.isfinite(value):
        return None
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        low = high = None
    return Figure(value=float(value), low=low, high=high)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ValueError(f"leaderboard: the path must exist, got {path}; give files or folders of entries")
    return [path] if path.is_file() else [p for p in path.rglob(f"*{SUFFIX}") if not p.name.startswith(".")]


def _not_json(name: str) -> float:
    raise ValueError(f"{name}, which is no number of JSON")
