"""A label map, and a column of a dataset, for the tests of suites."""

import numpy as np

from aqqua.store.read import Dataset

MAP = """
name: letters
description: made up
sources: [nobody]
date: "2026-01-31"
labels:
  - {label: a, name: Calanoida, aphia_id: 1100, lineage: [Animalia, Arthropoda, Copepoda, Calanoida]}
  - {label: o, name: Oithona, lineage: [Animalia, Arthropoda, Copepoda, Cyclopoida, Oithonidae, Oithona]}
  - {label: b, name: Hydrozoa, aphia_id: 1337, lineage: [Animalia, Cnidaria, Hydrozoa]}
  - {label: c, name: Chordata, lineage: [Animalia, Chordata]}
  - {label: d, name: detritus, qualifier: detritus, living: false, plankton: false}
leave_out:
  - {label: x, reason: of the lab}
"""


def column(dataset: Dataset, name: str) -> np.ndarray:
    """Values of a column, in the order of the rows."""
    return np.array(dataset.table([name])[name].to_pylist(), object)
