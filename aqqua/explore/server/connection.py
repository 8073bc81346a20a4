"""A connection of DuckDB to an atlas, shut off from everything else.

DuckDB may read that one file: no other file, no network, no extension, and the setting is locked.
Test: tests/explore/server/test_asked.py.
"""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

WHO = "explore"
NEAR = ("neighbours", "neighbour_similarity", "foreign")
NOT_ASKED = (*NEAR, "thumbnail")  # columns that no question is about


def connect(path: Path) -> Any:
    """A connection of DuckDB that can read one Parquet file, as the view `atlas`, and do nothing else.

    Raises:
        ValueError: DuckDB would take the name for a pattern.
        RuntimeError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise RuntimeError(
            "aqqua explore needs the package duckdb, got none; pip install 'aqqua[explore]'"
        ) from error
    whole = str(path.resolve())
    if set(whole) & set("*?[]"):
        raise ValueError(f"{WHO}: the path of an atlas must have none of * ? [ ], got {whole}; rename it")
    quoted = whole.replace("'", "''")
    connection = duckdb.connect(":memory:")
    for setting in (
        f"allowed_paths = ['{quoted}']",
        *("enable_external_access = false", "autoinstall_known_extensions = false"),
        *(
            "autoload_known_extensions = false",
            "threads = 2",
            "TimeZone = 'UTC'",
            "lock_configuration = true",
        ),
    ):
        connection.execute(f"SET {setting}")
    columns = [name for name in pq.read_schema(path).names if name not in NOT_ASKED]
    chosen = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    connection.execute(
        f"CREATE VIEW atlas AS SELECT {chosen}, file_row_number AS row "
        f"FROM read_parquet('{quoted}', file_row_number = true)"
    )
    return connection
