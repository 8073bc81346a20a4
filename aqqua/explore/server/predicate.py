"""A condition that a person writes in SQL, let in only if it can do nothing but compare columns.

DuckDB parses it; its tree may hold columns of the atlas, constants, comparisons, logic, arithmetic and a few
functions, and no query, file, setting or anything else.
Test: tests/explore/server/test_predicate.py.
"""

import json
from typing import Any

WHO = "explore select"
_MOST_LETTERS = 20_000
_CLASSES = {
    *(
        "CONJUNCTION",
        "COMPARISON",
        "CONSTANT",
        "COLUMN_REF",
        "OPERATOR",
        "BETWEEN",
        "FUNCTION",
        "CAST",
        "CASE",
    ),
    "TYPE",  # of a cast
}
_FUNCTIONS = {
    *(
        "+",
        "-",
        "*",
        "/",
        "%",
        "~~",
        "!~~",
        "~~*",
        "!~~*",
        "lower",
        "upper",
        "length",
        "contains",
        "starts_with",
    ),
    *(
        "suffix",
        "ends_with",
        "prefix",
        "abs",
        "round",
        "floor",
        "ceil",
        "sqrt",
        "ln",
        "log10",
        "year",
        "month",
        "day",
    ),
    *("hour", "date_part", "isnan", "coalesce", "least", "greatest", "like_escape"),
}
_TYPES = {
    "VARCHAR",
    "INTEGER",
    "BIGINT",
    "DOUBLE",
    "FLOAT",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
    "BOOLEAN",
}


def require_predicate(connection: Any, text: str, columns: list[str]) -> str:
    """The condition, if it is harmless.

    Args:
        connection: of DuckDB.
        text: SQL after WHERE, such as "label = 'Copepoda' AND novelty > 0.9".
        columns: that it may name.

    Raises:
        ValueError: it is no condition, or holds what it must not.
    """
    if len(text) > _MOST_LETTERS:
        raise ValueError(
            f"{WHO}: a condition must have {_MOST_LETTERS} letters at most, got {len(text)}; "
            "use a file of ids"
        )
    # A new line before the bracket: a comment at the end of the text cannot swallow it.
    query = f"SELECT 1 FROM atlas WHERE ({text}\n)"
    parsed = json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchone()[0])
    statements = parsed.get("statements", [])
    if parsed.get("error") or len(statements) != 1:
        raise ValueError(
            f"{WHO}: a condition must be SQL as after WHERE, got {text[:80]!r}: "
            f"{str(parsed.get('error_message', 'several statements'))[:120]}; correct it"
        )
    node = statements[0]["node"]
    where = node.pop("where_clause", None)
    plain = json.loads(
        connection.execute("SELECT json_serialize_sql('SELECT 1 FROM atlas WHERE (true)')").fetchone()[0]
    )["statements"][0]["node"]
    plain.pop("where_clause")
    if where is None or _without_places(node) != _without_places(plain):
        raise ValueError(
            f"{WHO}: a condition must end before any other clause, got {text[:80]!r}; leave it out"
        )
    _check(where, columns)
    return text


def _without_places(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _without_places(v) for k, v in node.items() if not k.startswith("query_location")}
    return [_without_places(one) for one in node] if isinstance(node, list) else node


def _check(node: Any, columns: list[str]) -> None:
    """Each expression of the tree is one of those allowed."""
    if isinstance(node, list):
        for one in node:
            _check(one, columns)
        return
    if not isinstance(node, dict):
        return
    kind = node.get("class")
    if kind is not None and kind not in _CLASSES:
        _refuse(str(kind).lower().replace("_", " "), "leave it out")
    if kind == "COLUMN_REF" and (len(node["column_names"]) != 1 or node["column_names"][0] not in columns):
        _refuse(f"the column {'.'.join(node['column_names'])[:60]}", f"the columns are {', '.join(columns)}")
    if kind == "FUNCTION":
        name = node.get("function_name", "")
        if (
            name.lower() not in _FUNCTIONS
            or node.get("schema")
            or node.get("catalog")
            or node.get("distinct")
        ):
            _refuse(f"the function {name[:60]}", f"those known are {', '.join(sorted(_FUNCTIONS))}")
    if kind == "TYPE" and (node["type_name"].upper() not in _TYPES or node["children"]):
        _refuse(f"the type {node['type_name'][:60]}", f"those known are {', '.join(sorted(_TYPES))}")
    for value in node.values():
        _check(value, columns)


def _refuse(what: str, fix: str) -> None:
    raise ValueError(f"{WHO}: a condition must only compare columns, got {what}; {fix}")
