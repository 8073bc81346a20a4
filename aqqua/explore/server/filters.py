"""Filters of a page as conditions of DuckDB: structured, checked, with every value bound as a parameter.

A filter is JSON: a list of {"column": c, "names": [...]} (any of these; null is what is unknown) and
{"column": c, "from": a, "to": b, "unknown": true} (a number or days since 1970 in between, both included).
Test: tests/explore/server/test_filters.py.
"""

import json
import math
from typing import Any

from aqqua.explore.server.columns import MS_PER_DAY, NAMES, TIME, require_column

WHO = "explore filter"
_MOST, _MOST_NAMES, _MOST_LETTERS = 30, 5000, 300_000  # filters, names of one, letters of the JSON


def read_filters(text: str) -> list[dict[str, Any]]:
    """The list in a JSON text; an empty text is no filter.

    Raises:
        ValueError: it is not one.
    """
    if len(text) > _MOST_LETTERS:
        raise ValueError(
            f"{WHO}: filters must have {_MOST_LETTERS} letters at most, got {len(text)}; name fewer values"
        )
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{WHO}: filters must be JSON, got {text[:60]!r}; see aqqua.explore.server.filters"
        ) from error
    if not isinstance(found, list) or len(found) > _MOST or not all(isinstance(one, dict) for one in found):
        raise ValueError(
            f"{WHO}: filters must be a list of at most {_MOST} objects, got {text[:60]!r}; give fewer"
        )
    return found


def condition(filters: list[dict[str, Any]], kinds: dict[str, str]) -> tuple[str, list[Any]]:
    """A condition of SQL and the values of its parameters.

    Args:
        filters: all must hold.
        kinds: of the atlas' columns.

    Raises:
        ValueError: one has no such form.
    """
    parts, bound = ["true"], []
    for one in filters:
        name = require_column(one.get("column"), kinds, WHO)
        quoted = f'"{name}"'
        kind = kinds[name]
        if kind == NAMES and set(one) == {"column", "names"}:
            part, values = _any_of(name, one["names"])
        elif kind != NAMES and {"column"} < set(one) <= {"column", "from", "to", "unknown"}:
            number = f"epoch_ms({quoted}) / {MS_PER_DAY}" if kind == TIME else quoted
            part, values = _between(f"CAST({number} AS FLOAT)", one)
        else:
            raise ValueError(
                f"{WHO}: the filter of {name} ({kind}) must have {_form(kind)}, got {sorted(one)}; correct it"
            )
        parts.append(part)
        bound += values
    return " AND ".join(parts), bound


def _form(kind: str) -> str:
    return "names" if kind == NAMES else "from, to or unknown"


def _any_of(name: str, names: object) -> tuple[str, list[Any]]:
    if not isinstance(names, list) or len(names) > _MOST_NAMES:
        raise ValueError(
            f"{WHO}: names of {name} must be a list of at most {_MOST_NAMES}, got {str(names)[:60]}; "
            "name fewer"
        )
    if not all(one is None or isinstance(one, str) for one in names):
        raise ValueError(f"{WHO}: names of {name} must be texts or null, got {str(names)[:60]}; correct them")
    # The cluster -1 is none: the page knows it as unknown.
    text = (
        f'CAST("{name}" AS VARCHAR)'
        if name != "cluster"
        else 'CASE WHEN "cluster" >= 0 THEN CAST("cluster" AS VARCHAR) END'
    )
    known = [one for one in names if one is not None]
    inside = f"{text} IN ({', '.join('?' * len(known))})" if known else "false"
    return (f"({inside} OR {text} IS NULL)" if None in names else f"coalesce({inside}, false)"), known


def _between(number: str, one: dict[str, Any]) -> tuple[str, list[Any]]:
    parts, bound = [f"NOT isnan({number})"], []
    for key, sign in (("from", ">="), ("to", "<=")):
        limit = one.get(key)
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
            raise ValueError(f"{WHO}: {key} must be a number, got {str(limit)[:60]!r}; give one")
        parts.append(f"{number} {sign} CAST(? AS FLOAT)")
        bound.append(float(limit))
    unknown = one.get("unknown", False)
    if not isinstance(unknown, bool):
        raise ValueError(f"{WHO}: unknown must be true or false, got {str(unknown)[:60]!r}; give one of them")
    inside = f"coalesce({' AND '.join(parts)}, false)"
    return (f"({inside} OR {number} IS NULL OR isnan({number}))" if unknown else inside), bound
