"""The facts of a cluster: partitions, their limits, and what its nodes need. One YAML file each.

Test: tests/launch/test_site.py.
"""

import difflib
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aqqua.config import load_config

SITES = "sites"  # the folder of those that come with aqqua


class Partition(BaseModel):
    """Nodes of one kind, and what a job there may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str | None = Field(default=None, description="name of the GPU; null: nodes without one")
    gpus_per_node: int = Field(ge=0, description="0: a job has one rank a node, on the CPU")
    cpus_per_node: int = Field(ge=1, description="cores")
    memory_gib_per_node: int = Field(ge=1)
    nodes: int | None = Field(default=None, ge=1, description="most of a job; null: not known")
    max_hours: float = Field(gt=0, description="wall-clock limit of a job")

    @property
    def ranks_per_node(self) -> int:
        """Processes a whole node takes: one for each GPU."""
        return max(self.gpus_per_node, 1)


class Site(BaseModel):
    """A cluster that runs SLURM."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    default_partition: str
    partitions: dict[str, Partition]
    memory_share: float = Field(
        default=0.95, gt=0, le=1, description="of a node's memory that a job asks for, in proportion to GPUs"
    )
    node_disk: str | None = Field(
        default=None, description="folder on the node's own disk, as the shell there writes it; null: none"
    )
    container_command: str = Field(
        default="apptainer exec --nv", description="what stands before image and command"
    )
    setup: list[str] = Field(default=[], description="shell lines of every job, such as `module load ...`")
    environment: dict[str, str] = Field(default={}, description="variables of every rank")
    signal_before_s: int = Field(
        default=600, ge=1, le=65535, description="how long before the limit a run is asked to save and stop"
    )
    confirm: list[str] = Field(
        default=[], description="facts above that nobody has confirmed; said at launch"
    )

    @model_validator(mode="after")
    def _known_default(self) -> "Site":
        self.partition(self.default_partition)
        return self

    def partition(self, name: str) -> Partition:
        """A partition by its name.

        Raises:
            ValueError: the cluster has none of this name.
        """
        if name in self.partitions:
            return self.partitions[name]
        near = difflib.get_close_matches(name, self.partitions, 1)
        hint = f"did you mean {near[0]}?" if near else "choose one of them"
        raise ValueError(
            f"launch: the partition must be one of {', '.join(self.partitions)} ({self.name}), got {name}; "
            f"{hint}"
        )


def known_sites() -> list[str]:
    """Names of the clusters that come with aqqua."""
    folder = files("aqqua.launch") / SITES
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_site(cluster: str) -> Site:
    """A cluster by its name, or by the path of its file.

    Raises:
        ValueError: no such cluster, or its file is not as `Site` says.
    """
    if cluster in known_sites():
        return load_config(Site, Path(str(files("aqqua.launch") / SITES / f"{cluster}.yaml")))
    path = Path(cluster)
    if path.suffix in (".yaml", ".yml"):
        return load_config(Site, path)
    raise ValueError(
        f"launch: --cluster must be {' or '.join(known_sites())}, or a YAML file of another cluster, got "
        f"{cluster}; copy aqqua/launch/sites/{known_sites()[0]}.yaml and change its facts"
    )
