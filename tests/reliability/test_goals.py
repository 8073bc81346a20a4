"""docs/reliability.md has the rows of the goals, and a row has figures exactly if a test measures it."""

import re
from pathlib import Path

from goals import BEGIN, END, GOALS, NOT_YET, PAGE, Result, page_with, rows_on_page


def rows_with_tests() -> set[str]:
    sources = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    return {row for source in sources for row in re.findall(r'pytest\.mark\.reliability\("(\w+)"\)', source)}


def test_the_page_has_the_rows_of_the_tests():
    page = rows_on_page(PAGE.read_text(encoding="utf-8"))
    assert list(page) == [goal.row for goal in GOALS]
    assert {row for row, cells in page.items() if not cells[4].startswith(NOT_YET)} == rows_with_tests()
    for goal in GOALS:
        assert page[goal.row][1:3] == (goal.test, goal.goal)


def test_a_part_of_the_rows_run_again_leaves_the_others():
    empty = f"before\n{BEGIN}\n{END}\nafter"
    once = page_with(empty, {"1a": Result("0 of 200", True, 61.0), "3": Result("1 lost", False, 2.0)})
    rows = rows_on_page(page_with(once, {"3": Result("0 | 0", True, 3.0)}))
    assert rows["1a"][4:] == ("0 of 200", "yes", "61")
    assert rows["3"][4:] == ("0 / 0", "yes", "3")
    assert rows["2"][4:] == (NOT_YET, "–", "–")
    assert once.startswith("before\n")
    assert once.endswith("\nafter")
