"""Training views of made images, and how to read them from their numbers alone."""

import numpy as np
from hypothesis import strategies as st
from made_sizes import sizes

from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, plan_views

WIDE = ViewConfig(min_tokens=(1, 1), max_tokens=(4096, 4096))  # neither floor nor cap is met at 8 px
CALM = WIDE.model_copy(update={"scale_jitter": (1.0, 1.0)})  # zoom is exactly 1
SIDES = st.one_of(
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.tuples(st.integers(600, 20_000), st.integers(1, 5)),
    st.tuples(st.integers(1, 5), st.integers(600, 20_000)),
    st.tuples(st.integers(2000, 20_000), st.integers(2000, 20_000)),
)


def visits(n: int, visit: int = 0) -> np.ndarray:
    return np.full(n, visit, np.uint64)


def plan(height, width, config=None, *, patch_px: int = 8, visit: int = 0, seed: int = 0, **known) -> Views:
    images = sizes(height, width, **known)
    return plan_views(images, visits(len(images), visit), seed, patch_px, config or ViewConfig())


def zoom(views: Views) -> np.ndarray:
    """Output px per source px, from the map alone; the same along both axes."""
    linear = views.map_IS23[..., :2].astype(np.float64)
    across, down = np.linalg.norm(linear[..., :, 0], axis=-1), np.linalg.norm(linear[..., :, 1], axis=-1)
    np.testing.assert_allclose(across, down, rtol=1e-5)
    np.testing.assert_allclose((linear[..., 0] * linear[..., 1]).sum(-1) / across**2, 0, atol=1e-5)
    return 1 / across
