"""Conditions in SQL: those that compare columns work, all others are refused before they run."""

import numpy as np
import pytest

EITHER = "label IN ('Ostracoda', 'egg') OR novelty BETWEEN 0.2 AND 0.3 -- so"
HIGH = "CASE WHEN novelty > CAST('0.9' AS DOUBLE) THEN true ELSE false END"
RIGHT = {  # of a label and a novelty
    "label = 'Calanoida'": lambda label, _: label == "Calanoida",
    "label = 'Calanoida' AND novelty > 0.5": lambda label, novelty: label == "Calanoida" and novelty > 0.5,
    EITHER: lambda label, novelty: label in ("Ostracoda", "egg") or 0.2 <= novelty <= 0.3,
    "lower(label) LIKE 'cal%'": lambda label, _: label == "Calanoida",
    "label IS NULL": lambda label, _: label is None,
    "label = ''' OR 1=1 --'": lambda label, _: label == "' OR 1=1 --",
    HIGH: lambda _, novelty: novelty > 0.9,
}
REFUSED = """
nonsense here
label
true; DROP VIEW atlas
true) UNION SELECT 1 FROM atlas WHERE (true
true) LIMIT 5 --
true) GROUP BY 1 --
EXISTS (SELECT 1)
label IN (SELECT label FROM atlas)
label = (SELECT content FROM read_text('/etc/hostname'))
read_text('/etc/hostname') IS NOT NULL
getenv('HOME') = 'x'
current_setting('threads') = 1
nextval('a') = 1
query('select 1') = 1
main.lower(label) = 'x'
atlas.label = 'x'
unknown = 1
label = $1
label = ?
thumbnail IS NULL
row_number() OVER () < 5
count(*) > 1
[label] = ['x']
{'a': label} = {'a': 'x'}
x -> x = 1
CAST(label AS STRUCT(a INTEGER)) IS NULL
CAST(label AS BLOB) IS NULL
random() < 0.5
COLUMNS(*) = 1
novelty > 'abc'
label = 'x' COLLATE nocase
""".strip().splitlines()


@pytest.mark.parametrize("text", RIGHT)
def test_a_condition_selects_what_it_says(asked, text):
    rows = asked.atlas.table(["label", "novelty"]).to_pylist()
    right = [n for n, row in enumerate(rows) if RIGHT[text](row["label"], row["novelty"])]
    assert right
    assert asked.where(text).tolist() == right


def test_times_compare(asked):
    early, late = asked.where("time < TIMESTAMP '2020-01-01'"), asked.where("year(time) >= 2020")
    days = asked.values("time").values
    assert (days[early] < 18262).all()
    assert (days[late] >= 18262).all()
    assert len(early) + len(late) == np.isfinite(days).sum()


@pytest.mark.parametrize("text", ["", "x" * 30_000, *REFUSED])
def test_all_else_is_refused_in_a_sentence(asked, text):
    with pytest.raises(ValueError, match=r"^explore( select)?: .*must .*, got .*; "):
        asked.where(text)
    assert len(asked.kept([])) == asked.rows  # and nothing was changed
