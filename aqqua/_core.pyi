"""Host hot paths in C++ (csrc/): NumPy in, NumPy out, the GIL released, no torch."""

import numpy as np
from numpy.typing import NDArray

def permute(index: NDArray[np.uint64], n: int, seed: int, stream: int) -> NDArray[np.uint64]:
    """Images of `index` under the permutation of range(n) named by (seed, stream).

    Specification: aqqua.plan.permute.permute_reference.

    Raises:
        ValueError: n is not 1 to 2**62, or an index is not below n.
    """
