"""A table of samples at a few places, with everything that makes a map hard."""

from datetime import UTC, datetime

import pytest
from made_published import sample_rows, write_samples


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """Three samples in one cell, one alone, one on the last edge, and three that lie nowhere."""
    winter = datetime(2021, 1, 2, tzinfo=UTC)
    rows = [
        *sample_rows("a", (3, 2, 9), 5.0),
        *sample_rows("b", (1, 0, 2), 1.0, lat=60.9),
        *sample_rows("c", (0, 0, 4), 2.0, time=winter, depth_m=45.0),
        *sample_rows("d", (0, 0, 1), 2.0, lat=-33.5, lon=-70.2),
        *sample_rows("e", (0, 7, 0), 10.0, lat=90.0, lon=180.0, time=None, depth_m=None),
        *sample_rows("f", (1, 1, 1), None),
        *sample_rows("g", (1, 1, 1), 5.0, lat=None),
    ]
    return write_samples(tmp_path_factory.mktemp("samples") / "samples.parquet", rows)
