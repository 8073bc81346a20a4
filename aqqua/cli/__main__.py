"""`python -m aqqua.cli`."""

import sys

from aqqua.cli import main

if __name__ == "__main__":
    sys.exit(main())
