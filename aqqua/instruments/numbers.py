"""Numbers in the text of instruments and tables: finite ones, and what stands for "missing".

Readers differ in what they do with a bad number (unknown, or a refusal), so this says only whether
there is one. Test: tests/instruments/test_numbers.py.
"""

import math

MISSING = frozenset({"", "-", "na", "n/a", "nan", "none", "null"})  # in lower case
NO_DATA = frozenset({99999.0})  # of UVPapp, ZooProcess; their 9999 can be a count
# Of tables many hands have filled in (EcoTaxa), of either sign; all seen.
TABLE_NO_DATA = frozenset({9999.0, 99999.0, 999999.0, 9999999.0})


def is_missing(text: str) -> bool:
    """True for an empty cell and for the words that stand for one."""
    return text.strip().lower() in MISSING


def is_blank(text: str) -> bool:
    """True where an instrument's file says that it has no such fact, in a word or as 99999."""
    return is_missing(text) or abs(finite(text) or 0) in NO_DATA


def finite(text: str | None) -> float | None:
    """A finite number with a decimal point; None for all else, '1_000' included, which float() takes."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in str(text) else None


def finite_within(text: str | None, limits: tuple[float, float]) -> float | None:
    """A finite number within the limits; None for all else."""
    value = finite(text)
    return value if value is not None and limits[0] <= value <= limits[1] else None


def number(text: str | None) -> float | None:
    """A finite number; None where an instrument's file says that it is missing, or holds no number."""
    value = finite(text)
    return None if value is None or abs(value) in NO_DATA else value
