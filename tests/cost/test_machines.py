import pytest

from aqqua.cost.facts import load_facts
from aqqua.cost.machines import Kind, Nodes, every_gpu, parse_nodes

KIND = Kind("H100", 4, 21, "gpu-h100")


def test_numbers_of_nodes():
    assert parse_nodes("4") == Nodes((4,), False)
    assert parse_nodes("1,2,2,8") == Nodes((1, 2, 8), False)
    assert parse_nodes("2..5") == Nodes((2, 3, 4, 5), True)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "4..2", "1..", "..3", "1...3", "a", "1,,2", "99999", "1..9999"]
)
def test_no_number_of_nodes(text):
    with pytest.raises(
        ValueError, match=r"--nodes must be a number, a list or a range such as 4, 1,2,8 or 1\.\.32"
    ):
        parse_nodes(text)


def test_of_a_range_what_cannot_be_is_left_out():
    assert parse_nodes("1..32").possible(KIND, lanes=64) == ([1, 2, 4, 8, 16], [])
    none, why = parse_nodes("5..7").possible(KIND, lanes=64)
    assert none == []
    assert len(why) == 1
    assert why[0].startswith(
        "data.lanes must be a multiple of the 20 GPUs of 5 nodes, got 64; set data.lanes=80"
    )


def test_what_is_asked_for_by_itself_must_be_possible():
    fine, why = parse_nodes("1,3,32").possible(KIND, lanes=64)
    assert fine == [1]
    assert why[0].startswith(
        "data.lanes must be a multiple of the 12 GPUs of 3 nodes, got 64; set data.lanes=72"
    )
    assert why[1] == "gpu-h100 has 21 nodes, got 32; ask for fewer"
    assert Kind("H100", 4, None, "x").problem(512, lanes=2048) is None


def test_every_gpu_that_is_known():
    facts = load_facts()
    assert [(kind.gpu, kind.gpus_per_node) for kind in every_gpu(facts, None)] == [(n, 4) for n in facts.gpus]
    assert {kind.gpus_per_node for kind in every_gpu(facts, 1)} == {1}
