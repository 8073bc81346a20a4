"""The packs that all renderers are tested with."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "render"))  # made_packs
