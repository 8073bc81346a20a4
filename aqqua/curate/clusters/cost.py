"""What clusters of a given number of images cost, before anything is computed: products, bytes and hours.

An image is compared with all clusters of level 1 of its own instrument: 2·D·K operations. k-means does that
with its sample in each iteration, the last assignment then once with every image. Levels above, resampling of
them, whitening and seeding are left out: of 100,000 clusters, together under 2 % of the sample's iterations.

Test: tests/curate/clusters/test_clusters_cost.py. Figure of a core: bench/curate.py.
"""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

TERA, GIGA, HOUR_S = 1e12, 1e9, 3600.0


class ClustersCost(BaseModel):
    """The work, and the machine it is reckoned for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int = Field(3_000_000_000, ge=1, description="of the dataset")
    width: int = Field(384, ge=1, description="numbers of an embedding")
    number_bytes: int = Field(2, ge=1, description="of a number as stored: float16")
    clusters: int = Field(100_000, ge=1, description="of level 1 in each instrument")
    instruments: int = Field(5, ge=1, description="large enough for so many clusters and a full sample")
    sampled: int = Field(4_000_000, ge=1, description="images of the sample of each instrument")
    iterations: int = Field(50, ge=1, description="of k-means over the sample")
    gpu_peak_tflop_s: float = Field(67, gt=0, description="H100 SXM data sheet: float32, no tensor cores")
    gpu_share: float = Field(0.6, gt=0, le=1, description="assumed: of the peak, by product and argmax")
    core_gflop_s: float = Field(
        150, gt=0, description="of one core; bench/results/cpu/curate.jsonl has it of an EPYC 9005 core"
    )
    cores: int = Field(64, ge=1, description="of the CPU machine")
    read_gb_s: float = Field(2, gt=0, description="assumed: from the file system, to one process")

    @property
    def assign_flop(self) -> float:
        """Of the last assignment of every image."""
        return 2.0 * self.images * self.width * self.clusters

    @property
    def train_flop(self) -> float:
        """Of the Lloyd iterations over all samples, and the assignment that tells their inertia."""
        sample = min(self.sampled * self.instruments, self.images)
        return 2.0 * sample * self.width * self.clusters * (self.iterations + 1)

    @property
    def read_bytes(self) -> float:
        """Of embeddings: all once for the assignment, and the samples once to copy them."""
        rows = self.images + min(self.sampled * self.instruments, self.images)
        return float(rows) * self.width * self.number_bytes

    @property
    def scratch_bytes(self) -> float:
        """Of the largest sample on disk."""
        return float(min(self.sampled, self.images)) * self.width * self.number_bytes

    @property
    def gpu_hours(self) -> float:
        """On one GPU, reading aside."""
        return (self.assign_flop + self.train_flop) / (self.gpu_peak_tflop_s * TERA * self.gpu_share) / HOUR_S

    @property
    def core_hours(self) -> float:
        """On one core."""
        return (self.assign_flop + self.train_flop) / (self.core_gflop_s * GIGA) / HOUR_S

    @property
    def read_hours(self) -> float:
        """Of one process that only reads."""
        return self.read_bytes / (self.read_gb_s * GIGA) / HOUR_S

    def lines(self) -> Iterator[str]:
        """For people."""
        yield (
            f"clusters   {self.images:.3g} images × {self.width} numbers, {self.clusters:,} clusters in each "
            f"of {self.instruments} instruments, samples of {self.sampled:,}, {self.iterations} iterations"
        )
        yield (
            f"products   assignment {self.assign_flop:.3g} FLOP, k-means of the samples "
            f"{self.train_flop:.3g} FLOP"
        )
        yield (
            f"bytes      {self.read_bytes / TERA:.2f} TB read, "
            f"{self.scratch_bytes / GIGA:.2f} GB of scratch; "
            f"{self.read_hours:.2f} h of reading at {self.read_gb_s:g} GB/s"
        )
        yield (
            f"one GPU    {self.gpu_hours:.2f} h at {self.gpu_share:.0%} of {self.gpu_peak_tflop_s:g} TFLOP/s "
            "(float32)"
        )
        yield (
            f"CPU        {self.core_hours:,.0f} core hours at {self.core_gflop_s:g} GFLOP/s, "
            f"{self.core_hours / self.cores:.1f} h on {self.cores} cores"
        )
