"""The numbers of a run: one JSON line per logged step, the same to TensorBoard.

Test: tests/train/test_metrics.py.
"""

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aqqua.plan.pack import Pack
from aqqua.store.read import Dataset
from aqqua.store.substitute import BadBlock
from aqqua.train.backend import LateImage
from aqqua.train.ranks import Ranks
from aqqua.train.useful import Useful

METRICS, BAD_BLOCKS, LATE_IMAGES = "metrics.jsonl", "bad_blocks.jsonl", "late_images.jsonl"
NAMED_IMAGES = 1000  # in late_images.jsonl: who has more has one fault in common, not a thousand to look up


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Lines:
    """A file of JSON lines, each with its step. A disk that refuses them costs lines, not the run.

    On resume the lines after the checkpoint are dropped, so that each step stands there once.
    """

    def __init__(self, path: Path, resumed_step: int, say: Callable[[str], None] = _to_stderr) -> None:
        self.path, self._say = path, say
        self._torn = self._told = False
        drop_after(path, resumed_step)

    def rows(self) -> list[dict[str, Any]]:
        """What stands there."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [json.loads(line) for line in lines]

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append; if that fails, say so once, until it works again."""
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        if not text:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._torn + text)  # what may be left of a line ends here
        except OSError as error:
            if not self._told:
                self._say(f"{self.path} cannot be written ({error}); training goes on, its lines are lost")
            self._torn = self._told = True
        else:
            self._torn = self._told = False


class MetricsLog:
    """Appends to metrics.jsonl and, if wanted, to TensorBoard event files in `tensorboard/`."""

    def __init__(
        self,
        folder: Path,
        resumed_step: int,
        tensorboard: bool = True,
        say: Callable[[str], None] = _to_stderr,
    ) -> None:
        self._lines, self._say = Lines(folder / METRICS, resumed_step, say), say
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # half a second to import

            with self._of_the_board():
                self._board = SummaryWriter(folder / "tensorboard", purge_step=resumed_step + 1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One line; numbers and dicts of numbers also become TensorBoard scalars."""
        self._lines.add([{"step": step, **_plain(values)}])
        with self._of_the_board():
            for name, value in _scalars(values) if self._board is not None else ():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        with self._of_the_board():
            if self._board is not None:
                self._board.close()

    @contextmanager
    def _of_the_board(self) -> Iterator[None]:
        """Its writer is a thread; what the disk told that one comes up here, later, and ends it."""
        try:
            yield
        except OSError as error:
            self._say(f"TensorBoard's files cannot be written ({error}); training goes on without them")
            self._board = None


class BadBlockLog:
    """bad_blocks.jsonl: each damaged block once, with the first step that used what stands for it."""

    def __init__(self, folder: Path, resumed_step: int, say: Callable[[str], None] = _to_stderr) -> None:
        self._lines = Lines(folder / BAD_BLOCKS, resumed_step, say)
        self._noted: set[int] = {row["block"] for row in self._lines.rows()}

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, step: int, found: Iterable[BadBlock]) -> list[BadBlock]:
        """Write down those that are not yet; returns them."""
        new = [bad for bad in found if bad.block not in self._noted]
        self._lines.add({"step": step, **asdict(bad)} for bad in new)
        self._noted |= {bad.block for bad in new}
        return new


@dataclass(frozen=True)
class LateNote:
    """One line of late_images.jsonl, without its step."""

    block: int
    row: int  # of the block, and so of the row group
    key: int  # of the image, as in the dataset
    file: str  # the part's name, in the dataset's folder
    row_group: int
    stands: str  # for it: 'strict' pixels of our own decoder, or a 'blank' frame
    error: str


class LateImageLog:
    """late_images.jsonl: each image whose file DALI could not decode, once, with the first step.

    The first NAMED_IMAGES of them have a line each. Of the others only the number of times is kept that one
    was met, a line for each step: {"step", "strict", "blank"}.
    """

    def __init__(
        self, folder: Path, resumed_step: int, dataset: Dataset, say: Callable[[str], None] = _to_stderr
    ) -> None:
        self._lines, self._dataset = Lines(folder / LATE_IMAGES, resumed_step, say), dataset
        self._named: set[tuple[int, int]] = set()
        self._counts = Counter({"strict": 0, "blank": 0})
        for row in self._lines.rows():
            if "block" in row:
                self._named.add((row["block"], row["row"]))
                self._counts[row["stands"]] += 1
            else:
                self._counts.update({stands: row[stands] for stands in self._counts})

    @property
    def path(self) -> Path:
        """The file."""
        return self._lines.path

    @property
    def full(self) -> bool:
        """Further images are counted, not named."""
        return len(self._named) >= NAMED_IMAGES

    def counts(self) -> dict[str, int]:
        """How many images had each kind of page stand for them; of those without a name, how many times."""
        return dict(self._counts)

    def note(self, step: int, found: Iterable[LateImage]) -> list[LateNote]:
        """Write down those that are not yet; returns those that got a name."""
        notes, more = list[LateNote](), Counter({"strict": 0, "blank": 0})
        for one in found:
            if (one.block, one.row) in self._named:
                continue
            note = self._note(one)
            if self.full:
                more[note.stands] += 1
            else:
                notes.append(note)
                self._named.add((one.block, one.row))
            self._counts[note.stands] += 1
        self._lines.add({"step": step, **asdict(note)} for note in notes)
        self._lines.add([{"step": step, **more}] if more.total() else [])
        return notes

    def _note(self, one: LateImage) -> LateNote:
        """From what is known already: a look into the dataset could wait for a disk, or fail."""
        file, group = self._dataset.place(one.block)
        stands = "blank" if one.blank else "strict"
        return LateNote(one.block, one.row, one.key, file, group, stands, one.error)


class Meter:
    """Pace and mix of this rank's packs since it was last read; with `useful` also what they computed."""

    def __init__(self, useful: Useful | None = None) -> None:
        self._useful = useful
        self._clear()

    def _clear(self) -> None:
        self._start, self._waited = time.monotonic(), 0.0
        self._images = self._tokens = self._room = self._steps = 0
        self._flops = 0.0
        self._instruments: Counter[str] = Counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time within counts as waiting for data."""
        before = time.monotonic()
        yield
        self._waited += time.monotonic() - before

    def add(self, packs: Sequence[Pack], anchored: bool = True) -> None:
        """Count one step; `anchored` as in Useful.flops."""
        self._steps += 1
        self._flops += self._useful.flops(packs, anchored) if self._useful else 0.0
        for pack in packs:
            self._images += pack.n_images
            self._tokens += pack.tokens
            self._room += pack.budget_tokens
            names = pack.sizes.instrument_names
            self._instruments.update(names[code] for code in pack.sizes.instrument.tolist())

    def read(self, ranks: Ranks | None = None) -> dict[str, Any]:
        """Per second, since the last reading, of all ranks together; then start anew."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        mine = [self._images, self._tokens, self._room, self._waited, self._flops, dict(self._instruments)]
        images, tokens, room, waited, flops, instruments = zip(*(ranks or Ranks()).gather(mine), strict=True)
        values = {
            "images_per_s": sum(images) / seconds,
            "tokens_per_s": sum(tokens) / seconds,
            "fill": sum(tokens) / max(sum(room), 1),
            **(self._useful.numbers(sum(flops), seconds) if self._useful else {}),
            "step_s": seconds / max(self._steps, 1),
            "waiting_share": max(waited) / seconds,
            "instruments": dict(sorted(sum(map(Counter, instruments), Counter[str]()).items())),
        }
        self._clear()
        return values


def _plain(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite, at any depth, is written as its name."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _scalars(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((prefix + name, float(value)))
    return found


def drop_after(path: Path, step: int) -> None:
    """Drop the lines of later steps, and the torn last line of a killed run, from a file of JSON lines."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the torn last line of a killed run
        if row["step"] <= step:
            kept.append(line)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    temporary.replace(path)
