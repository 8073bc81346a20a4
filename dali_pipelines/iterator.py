"""Packs through a pipeline, batch by batch, in the order of the plan.

DALI pulls: it asks a source for batch 0, 1, 2, ... of an epoch until there is none. Here a pack is an epoch,
and a batch a stretch of it, so that one pipeline takes packs of any number of images, works ahead within the
pack, and is empty between two packs. What a source gives depends on the pack it was handed and on the number
of the batch alone. So a pipeline has no state worth saving: a run resumes from the states of its lanes, with
any number of ranks (each rank's lanes are those of its global rank), and no checkpoint of DALI's is written.
Test: tests/dali_pipelines/test_iterator.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

from nvidia.dali.pipeline import Pipeline
from nvidia.dali.types import BatchInfo

Batch = Callable[[int], Any]  # what the graph's external sources are given for a batch of this number
WAY_OUT = "see aqqua doctor, or use data.backend=parquet and data.renderer=auto"
QUEUE = 2  # batches under way: one is decoded while Python takes the one before apart


def _nothing(number: int) -> Any:
    raise AssertionError(f"iterator: batches must be handed before they are asked for, got {number}")


class PackSource:
    """The batches of one pack, as external_source(batch=True, batch_info=True) asks for them."""

    def __init__(self) -> None:
        self._batches = 0
        self._batch: Batch = _nothing

    def hand(self, batches: int, batch: Batch) -> None:
        """The pack of the coming epoch: how many batches it has, and what gives one."""
        self._batches, self._batch = batches, batch

    def __call__(self, info: BatchInfo) -> Any:
        if info.iteration >= self._batches:
            raise StopIteration
        return self._batch(info.iteration)


class PackPipeline:
    """A pipeline that is built when it is first needed, and anew after it failed."""

    def __init__(self, build: Callable[[PackSource], Pipeline]) -> None:
        """
        Args:
            build: makes a pipeline whose external sources ask the given source.
        """
        self._build = build
        self._source = PackSource()
        self._pipeline: Pipeline | None = None
        self.built = 0  # how often

    def ready(self) -> Pipeline:
        """The pipeline, built if there is none: what fails here is no fault of a pack's.

        Raises:
            RuntimeError: DALI cannot build it.
        """
        if self._pipeline is None:
            source = PackSource()
            try:
                self._pipeline = self._build(source)
            except RuntimeError as error:
                raise RuntimeError(
                    f"DALI must be able to build a pipeline, got {error}; {WAY_OUT}"
                ) from error
            self._source = source
            self.built += 1
        return self._pipeline

    def run(self, batches: int, batch: Batch, stream: object = None) -> Iterator[tuple[Any, ...]]:
        """Outputs of the graph for each batch of a pack.

        Args:
            batches: how many there are.
            batch: what the source gives for each.
            stream: of CUDA, on which outputs on a GPU are in order; None: they are there.

        Raises:
            RuntimeError: DALI failed; the pipeline is gone, and the next pack gets a new one.
        """
        pipeline, whole = self.ready(), False
        self._source.hand(batches, batch)
        try:
            for _ in range(batches):
                yield pipeline.run(stream)
            _end_epoch(pipeline)
            whole = True
        finally:
            self._source.hand(0, _nothing)  # the pack's images are nobody's any more
            if not whole:  # also where the caller stops in the middle: batches are under way
                self.close()

    def close(self) -> None:
        """Give back its threads and memory; a later pack builds it anew."""
        self._pipeline = None


def _end_epoch(pipeline: Pipeline) -> None:
    """Let the source say that the pack is over, and begin with batch 0 again."""
    try:
        pipeline.run()
    except StopIteration:
        pipeline.reset()
        return
    raise AssertionError("iterator: a pack must end where its batches do, got one more")
