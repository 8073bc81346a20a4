"""The facts that a prediction rests on, and ceilings measured here in the place of those written there.

Test: tests/cost/test_facts.py.
"""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aqqua.config import load_config

GIGA = 1e9
CEILINGS = {"product_tflop_s": "bf16_tflop_s", "copy_gb_s": "copy_gb_s"}  # ours: those of bench/gpu.py


class Fact(BaseModel):
    """A number, how it is known, and where from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float = Field(gt=0)
    known: Literal["measured", "published", "assumed"]
    source: str

    @model_validator(mode="before")
    @classmethod
    def _from_row(cls, row: Any) -> Any:
        if isinstance(row, list | tuple) and len(row) == 3:
            return {"value": row[0], "known": row[1], "source": str(row[2])}
        return row


class Gpu(BaseModel):
    """What one kind of GPU, and a node of it, can do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    named: str = Field(description="regular expression of the device's own name, for measured ceilings")
    peak_tflop_s: Fact = Field(description="dense bfloat16; MFU is a share of it")
    product_tflop_s: Fact = Field(description="that a large bfloat16 product reaches")
    copy_gb_s: Fact = Field(description="bytes read and written by a large copy")
    memory_gb: Fact
    node_link_gb_s: Fact = Field(description="of one GPU to the others of its node, one direction")
    gpus_per_node: Fact
    node_network_gbit_s: Fact = Field(description="of a node to the others, one direction")
    wall_kw: Fact = Field(description="of the electricity meter, per GPU at work")


class Facts(BaseModel):
    """All of facts.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpus: dict[str, Gpu]
    shares: dict[str, Fact]
    times: dict[str, Fact]
    counts: dict[str, Fact]

    def gpu(self, name: str) -> Gpu:
        """A GPU by its name here.

        Raises:
            ValueError: nothing is known of it.
        """
        if name not in self.gpus:
            raise ValueError(
                f"plan: the GPU must be one of {', '.join(self.gpus)}, got {name}; add it to "
                "aqqua/cost/facts.yaml"
            )
        return self.gpus[name]

    def named(self, device: str) -> Gpu | None:
        """The GPU that calls itself so; None: not known, or only a part of one (MIG)."""
        if re.search(r"\bMIG\b", device):
            return None
        return next((g for g in self.gpus.values() if re.search(g.named, device, re.IGNORECASE)), None)

    def assumed_of_gpu(self, name: str) -> list[str]:
        """What of a GPU is a guess, in words."""
        return _assumed(vars(self.gpu(name)))

    def assumed_of_all(self) -> list[str]:
        """What of every prediction is a guess, in words."""
        groups = ("shares", "times", "counts")
        return [f"{group}.{line}" for group in groups for line in _assumed(getattr(self, group))]


def _assumed(facts: dict[str, Any]) -> list[str]:
    pairs = [(name, fact) for name, fact in facts.items() if isinstance(fact, Fact)]
    return [f"{name} {fact.value:g}" for name, fact in pairs if fact.known == "assumed"]


def load_facts(results: Path | None = None) -> Facts:
    """The facts, with the newest ceilings that bench/gpu.py has left for a GPU in the place of those written.

    Args:
        results: folder of its rows; None: bench/results of this checkout, where there is one.
    """
    facts = load_config(Facts, Path(str(files("aqqua.cost") / "facts.yaml")))
    results = Path(__file__).parents[2] / "bench" / "results" if results is None else results
    rows = sorted(_environments(results), key=lambda row: str(row.get("date", "")))
    gpus = {name: _measured(gpu, rows) for name, gpu in facts.gpus.items()}
    return facts.model_copy(update={"gpus": gpus})


def _environments(results: Path) -> Iterator[dict[str, Any]]:
    """The first lines of the files of bench/gpu.py: device, date, commit, ceilings."""
    for path in sorted(results.glob("*/*.jsonl")):
        with path.open(encoding="utf-8") as file:
            line = file.readline()
        row = json.loads(line) if line.strip() else {}
        if row.get("kind") == "environment" and set(CEILINGS.values()) <= row.keys():
            yield row


def _measured(gpu: Gpu, rows: list[dict[str, Any]]) -> Gpu:
    mine = [row for row in rows if re.search(gpu.named, row["device"], re.IGNORECASE)]
    if not mine:
        return gpu
    row = mine[-1]
    source = (
        f"bench/gpu.py on {row['device']}, {row.get('date', '')}, commit {str(row.get('commit', ''))[:10]}"
    )
    found = {
        ours: Fact(value=row[theirs], known="measured", source=source) for ours, theirs in CEILINGS.items()
    }
    return gpu.model_copy(update=found)
