"""Packs of any length go through one pipeline, in order; a failure costs one pipeline, not the next pack."""

import numpy as np
import pytest

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")

from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from dali_pipelines.iterator import PackPipeline, PackSource

SIZE = 4


def build(source: PackSource) -> Pipeline:
    pipeline = Pipeline(SIZE, 1, device_id=None)
    with pipeline:
        pipeline.set_outputs(
            fn.external_source(source=source, batch=True, batch_info=True, dtype=types.INT32, ndim=1)
        )
    return pipeline


def through(pipeline: PackPipeline, count: int, first: int = 0) -> list[int]:
    """Numbers from `first` on through the pipeline."""
    values = [np.array([first + i], np.int32) for i in range(count)]
    outputs = pipeline.run(-(-count // SIZE), lambda batch: values[batch * SIZE : (batch + 1) * SIZE])
    return [int(out.at(i)[0]) for (out,) in outputs for i in range(len(out))]


def test_packs_of_any_length_come_in_order():
    pipeline = PackPipeline(build)
    for first, count in ((0, 1), (10, 4), (20, 5), (30, 103), (200, 0), (300, 8)):
        assert through(pipeline, count, first) == list(range(first, first + count))
    assert pipeline.built == 1


def test_after_a_failure_the_next_pack_is_whole():
    pipeline = PackPipeline(build)

    def wrong(batch: int) -> list[np.ndarray]:
        if batch == 2:
            return [np.zeros((1, 1), np.int32)]  # of two dimensions
        return [np.array([batch], np.int32)]

    with pytest.raises(RuntimeError):
        list(pipeline.run(5, wrong))
    assert through(pipeline, 9) == list(range(9))
    assert pipeline.built == 2


def test_who_stops_in_the_middle_leaves_nothing_to_the_next_pack():
    pipeline = PackPipeline(build)
    walk = pipeline.run(50, lambda batch: [np.array([batch], np.int32)])
    next(walk)
    walk.close()
    assert through(pipeline, 6) == list(range(6))


def test_an_error_of_the_source_is_seen():
    def broken(batch: int) -> list[np.ndarray]:
        raise KeyError(f"batch {batch}")

    with pytest.raises(KeyError, match="batch 0"):
        list(PackPipeline(build).run(1, broken))


def test_a_pack_is_forgotten_when_it_is_over():
    pipeline = PackPipeline(build)
    through(pipeline, 3)
    with pytest.raises(AssertionError, match="handed before they are asked for, got 0"):
        pipeline._source._batch(0)


def test_it_can_be_closed_and_used_again():
    pipeline = PackPipeline(build)
    through(pipeline, 3)
    pipeline.close()
    assert through(pipeline, 3) == [0, 1, 2]
    assert pipeline.built == 2
