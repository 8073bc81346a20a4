"""The page for users says what the schema says, and its snippets run."""

import re
from pathlib import Path

import numpy as np

from aqqua.store.schema import COLUMNS, ENCODED_COLUMNS, ENCODED_SCHEMA, SCHEMA

PAGE = Path(__file__).parents[2] / "docs" / "dataset.md"


def test_every_column_is_on_the_page_with_its_meaning():
    page = dict(
        re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert page == {name: text for name, _, _, text in (*COLUMNS, *ENCODED_COLUMNS)}


def test_every_field_carries_its_description():
    assert all(field.metadata[b"description"] for field in (*SCHEMA, *ENCODED_SCHEMA))


def test_snippets_of_the_page_run(make_dataset, monkeypatch):
    dataset = make_dataset(70, "my-dataset")
    monkeypatch.chdir(dataset.path.parent)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found: list[np.ndarray] = []
    for snippet in snippets:
        names: dict[str, object] = {}
        exec(snippet, names)
        found.append(np.squeeze(names["image"]))  # type: ignore[arg-type]
    assert len(found) == 2
    np.testing.assert_array_equal(found[0].squeeze(), found[1])
