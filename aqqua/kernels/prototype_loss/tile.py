"""What one program of a kernel holds at a time. Letter key: R rows, K prototypes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A block of rows and columns of the [R, K] problem, and the warps that work on it."""

    rows: int
    columns: int
    warps: int
