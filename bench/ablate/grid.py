"""A grid of an ablation, as it is written in YAML: arms, seeds, compute, and who judges.

Test: tests/test_ablate.py.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

ROOT = Path(__file__).parents[2]


class Judged(BaseModel):
    """A suite that every run answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str = Field(description="that came with aqqua, or a YAML file (docs/suites.md)")
    data: dict[str, str] = Field(min_length=1, description="key of the suite -> dataset's folder in DATA")
    tier: str = Field(default="sample", description="of the suite's: sample, region, instrument")


class Compared(BaseModel):
    """A figure that arms are compared by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probe: str = Field(description="of the answers of aqqua evaluate, as in 'kNN k=20', instrument_probe")
    figure: str = Field(description="a metric of the suites")


class Grid(BaseModel):
    """Arms that differ in a few settings, trained with the same operations and judged by the same suites."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="of the grid: folder and heading")
    question: str = Field(min_length=1, description="what the grid is to answer, in a sentence")
    base: Path = Field(description="config of every run, relative to the project")
    dataset: str = Field(description="folder in DATA that all runs learn from")
    overrides: list[str] = Field(default=[], description="dotted settings of every run")
    compute_tflop: float = Field(
        gt=0,
        description="useful operations of one run's training, 1e12 (aqqua/cost/flops.py): the same for all",
    )
    seeds: list[int] = Field(min_length=1, description="of every arm; three or more give intervals")
    arms: dict[str, list[str]] = Field(min_length=1, description="name -> its dotted settings")
    against: str = Field(description="the arm that the others are compared with")
    judged: list[Judged] = Field(min_length=1)
    probes: list[str] = Field(default=["knn"], description="of aqqua evaluate")
    probe: str = Field(default="kNN k=20", description="whose figure is compared")
    figure: str = Field(default="macro_f1", description="that is compared; a metric of the suites")
    also: list[Compared] = Field(default=[], description="further figures, of the suites that have them")
    told: list[str] = Field(
        default=[], description="scales told at judging beside the true one: unknown, x2 (docs/evaluate.md)"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Grid":
        if self.against not in self.arms:
            raise ValueError(
                f"against must be one of the arms {[*self.arms]}, got {self.against!r}; name one"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, got {self.seeds}; each is a run of its own")
        for arm in self.arms:
            if not arm.replace("-", "").isalnum():
                raise ValueError(f"names of arms must be letters, digits and -, got {arm!r}; rename it")
        return self

    @property
    def sha256(self) -> str:
        """Of all that decides a run of the grid, its base config included; arms and seeds are the cell's."""
        of_cells = {"arms", "seeds", "against", "question", "probe", "figure", "also"}
        said = self.model_dump_json(exclude=of_cells) + (ROOT / self.base).read_text(encoding="utf-8")
        return hashlib.sha256(said.encode()).hexdigest()


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    arm: str
    seed: int
    overrides: tuple[str, ...]  # of the grid, of the arm, then the seed

    @property
    def name(self) -> str:
        return f"{self.arm}--seed{self.seed}"


def read_grid(path: Path) -> Grid:
    """
    Raises:
        ValueError: it is not one; the message says what must hold.
    """
    try:
        grid = Grid.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not (ROOT / grid.base).is_file():
        raise ValueError(f"{path.name}: base must be a config of the project, got {grid.base}; see configs/")
    return grid


def cells_of(grid: Grid) -> list[Cell]:
    """Every arm with the first seed, then with the second: what is there when time runs out is comparable."""
    return [
        Cell(arm, seed, (*grid.overrides, *settings, f"seed={seed}"))
        for seed in grid.seeds
        for arm, settings in grid.arms.items()
    ]
