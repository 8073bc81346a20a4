"""What a run says and writes down while it trains: bar, metrics.jsonl, steps that were skipped, damage.

Every rank keeps a journal and makes the same calls, since what is noted comes from all of them; rank 0 alone
shows and writes. Test: tests/train/test_journal.py, test_run.py.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from aqqua.plan.pack import Pack
from aqqua.progress import Bar
from aqqua.store.read import Dataset
from aqqua.store.substitute import BadBlock
from aqqua.train.backend import LateImage
from aqqua.train.metrics import BadBlockLog, LateImageLog, Lines, Meter, MetricsLog
from aqqua.train.ranks import Ranks
from aqqua.train.useful import Useful, note

SKIPPED, ROLLBACKS = "skipped.jsonl", "rollbacks.jsonl"


class Journal:
    """The records of one run. Lines of steps after `resumed_step` are dropped from its files."""

    def __init__(
        self,
        folder: Path,
        resumed_step: int,
        images_total: int,
        tensorboard: bool,
        ranks: Ranks,
        dataset: Dataset,
        useful: Useful | None = None,
    ) -> None:
        self._ranks = ranks
        self.meter = Meter(useful)
        self._pace = ""  # of the last line of metrics, for the bar
        self._bar = Bar("pretrain", images_total, "images", shown=ranks.first)
        self._log: MetricsLog | None = None
        self._bad: BadBlockLog | None = None
        self._late: LateImageLog | None = None
        self._others: dict[str, Lines] = {}
        if ranks.first:
            self._others = {
                name: Lines(folder / name, resumed_step, self.say) for name in (SKIPPED, ROLLBACKS)
            }
            self._log = MetricsLog(folder, resumed_step, tensorboard, self.say)
            self._bad = BadBlockLog(folder, resumed_step, self.say)
            self._late = LateImageLog(folder, resumed_step, dataset, self.say)

    def __enter__(self) -> "Journal":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)
        if self._log is not None:
            self._log.close()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._bar.say(line)

    def progress(self, images: int, text: str = "") -> None:
        """So far."""
        self._bar.update(images, f"{text}{self._pace}")

    def count(self, packs: Sequence[Pack], anchored: bool) -> None:
        """A step's packs on this rank; `anchored` as in Useful.flops."""
        self.meter.add(packs, anchored)

    def numbers(self, step: int, values: dict[str, Any]) -> None:
        """A line of metrics: values that are alike on all ranks, and the pace of all of them."""
        pace = self.meter.read(self._ranks)
        self._pace = f" {note(pace)}" if "tflop_per_s" in pace else ""
        if self._log is not None and self._bad is not None and self._late is not None:
            damage = {"bad_blocks": len(self._bad), "late_images": self._late.counts()}
            self._log.write(step, {**values, **damage, **pace})

    def damage(self, step: int, blocks: Sequence[BadBlock], images: Sequence[LateImage]) -> None:
        """Damaged blocks whose replacements were used on this rank, and images that DALI could not decode.

        Each is noted once. Nearly always no rank has any, which costs one call of all.
        """
        counts = self._ranks.table([len(blocks), len(images)])
        if any(count for count, _ in counts):
            self._bad_blocks(step, self._of_all([asdict(bad) for bad in blocks]))
        if any(count for _, count in counts):
            self._late_images(step, self._of_all([asdict(late) for late in images]))

    def _bad_blocks(self, step: int, rows: list[dict[str, Any]]) -> None:
        if self._bad is None:
            return
        for bad in self._bad.note(step, [BadBlock(**row) for row in rows]):
            self.say(f"block {bad.block} is damaged, block {bad.replacement} stands for it: {bad.error}")

    def _late_images(self, step: int, rows: list[dict[str, Any]]) -> None:
        if self._late is None:
            return
        was_full = self._late.full
        for late in self._late.note(step, [LateImage(**row) for row in rows]):
            self.say(
                f"the image in {late.file} row group {late.row_group} row {late.row} (key {late.key}) "
                f"cannot be decoded by DALI, {late.stands} pixels stand for it: {late.error}"
            )
        if self._late.full and not was_full:
            self.say(f"further images that DALI cannot decode are counted, not named: {self._late.path}")

    def _of_all(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for mine in self._ranks.gather(rows) for row in mine]

    def skipped(self, step: int, image_ids: Sequence[str]) -> list[str]:
        """A step that was not taken; returns the ids of its images on all ranks."""
        ids = [name for names in self._ranks.gather(list(image_ids)) for name in names]
        self._append(SKIPPED, {"step": step, "images": ids})
        return ids

    def rolled_back(
        self, step: int, reason: str, to_step: int, lanes_then: dict[str, Any], lanes_now: dict[str, Any]
    ) -> None:
        """Weights went back to a step; the lanes' places then and now say which images are left out."""
        row = {"step": step, "reason": reason, "to_step": to_step}
        self._append(ROLLBACKS, {**row, "lanes_then": lanes_then, "lanes_now": lanes_now})

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if name in self._others:
            self._others[name].add([row])
