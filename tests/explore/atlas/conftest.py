"""Where the made-up atlas of these tests is found."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # made_atlas
