"""Which GPUs and nodes a prediction is for, from what a user asks. Test: tests/cost/test_machines.py."""

from dataclasses import dataclass

from aqqua.cost.facts import Facts

MOST_NODES = 4096


@dataclass(frozen=True)
class Kind:
    """Nodes of one kind."""

    gpu: str
    gpus_per_node: int
    most_nodes: int | None  # of a job; None: not known
    where: str

    def problem(self, nodes: int, lanes: int) -> str | None:
        """Why a run of so many lanes cannot take so many nodes."""
        ranks = nodes * self.gpus_per_node
        if self.most_nodes is not None and nodes > self.most_nodes:
            return f"{self.where} has {self.most_nodes} nodes, got {nodes}; ask for fewer"
        if lanes % ranks:
            return (
                f"data.lanes must be a multiple of the {ranks} GPUs of {nodes} node{'s' * (nodes > 1)}, got "
                f"{lanes}; set data.lanes={-(-lanes // ranks) * ranks} or ask for other nodes"
            )
        return None


@dataclass(frozen=True)
class Nodes:
    """Numbers of nodes. Of a range those that cannot be are left out; one asked for by itself must be."""

    counts: tuple[int, ...]
    is_range: bool

    def possible(self, kind: Kind, lanes: int) -> tuple[list[int], list[str]]:
        """Those that a run of so many lanes can take, and what is in the way of the others."""
        problems = {nodes: kind.problem(nodes, lanes) for nodes in self.counts}
        fine = [nodes for nodes, problem in problems.items() if problem is None]
        if self.is_range and fine:
            return fine, []
        in_the_way = [problem for problem in problems.values() if problem is not None]
        return fine, in_the_way[:1] if self.is_range else in_the_way


def parse_nodes(text: str) -> Nodes:
    """Of "4", "1,2,8" or "1..32".

    Raises:
        ValueError: it is none of these.
    """
    first, dots, last = text.partition("..")
    words = [first, last] if dots else text.split(",")
    if not all(word.strip().isdecimal() and 1 <= int(word) <= MOST_NODES for word in words) or (
        dots and int(first) > int(last)
    ):
        raise ValueError(
            f"plan: --nodes must be a number, a list or a range such as 4, 1,2,8 or 1..32 (at most "
            f"{MOST_NODES}), got {text}; correct it"
        )
    numbers = [int(word) for word in words]
    return Nodes(tuple(range(numbers[0], numbers[1] + 1) if dots else dict.fromkeys(numbers)), bool(dots))


def every_gpu(facts: Facts, gpus_per_node: int | None) -> list[Kind]:
    """Nodes of each GPU that is known, with so many of them, or as many as usual."""
    return [Kind(n, gpus_per_node or int(g.gpus_per_node.value), None, n) for n, g in facts.gpus.items()]
