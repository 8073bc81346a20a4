"""One small picture through DALI: a script, for a process of its own (dali_pipelines.trial).

    python -P first_picture.py [DEVICE]

Exit status 0 if the picture is what it was; else what failed is on stderr. It imports nothing of ours.
Test: tests/dali_pipelines/test_available.py.
"""

import io
import sys

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from PIL import Image

SIDE, LEVEL = 16, 128  # of a picture in one grey, which every JPEG decoder gives exactly


def main(device: int | None) -> None:
    """Raises whatever DALI raises."""
    stream = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE), LEVEL, np.uint8)).save(stream, "JPEG")
    file = np.frombuffer(stream.getvalue(), np.uint8)
    pipeline = Pipeline(1, 1, device_id=device, prefetch_queue_depth=1)
    with pipeline:
        data = fn.external_source(source=lambda: [file], batch=True, dtype=types.UINT8, ndim=1)
        where = "cpu" if device is None else "mixed"
        pipeline.set_outputs(fn.decoders.image(data, device=where, output_type=types.GRAY))
    pipeline.build()
    (out,) = pipeline.run()
    page = np.array((out if device is None else out.as_cpu()).at(0))
    if page.shape != (SIDE, SIDE, 1) or (page != LEVEL).any():
        raise RuntimeError(f"a picture must be decoded to {SIDE}×{SIDE} times {LEVEL}, got {page}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
