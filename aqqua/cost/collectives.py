"""Seconds of the collectives that ranks wait for: rings in a node and between nodes.

A ring over N ranks moves (N − 1)/N of the bytes in N − 1 hops to scatter the sums (reduce-scatter), and as
much to gather them (all-gather); an all-reduce is both. Between nodes each GPU sends its share of what the
node has added up, and the GPUs of a node share its adapters.

Source: Patarasuk and Yuan 2009 (ring all-reduce); Rajbhandari 2020 (ZeRO), section 7, for bytes by stage.
Letters: N ranks, g GPUs of a node, m nodes. Test: tests/cost/test_collectives.py, against cases by hand.
"""

from dataclasses import dataclass

from aqqua.cost.facts import GIGA, Facts, Gpu


@dataclass(frozen=True)
class Links:
    """Ranks, and what connects them. Bytes per second are those reached, in one direction."""

    gpus_per_node: int
    nodes: int
    node_bytes_s: float  # of each GPU to its node's others
    network_bytes_s: float  # of a whole node to the other nodes
    node_hop_s: float
    network_hop_s: float

    @property
    def ranks(self) -> int:
        return self.gpus_per_node * self.nodes


def links_of(gpu: Gpu, facts: Facts, nodes: int, gpus_per_node: int) -> Links:
    """Of nodes with these GPUs."""
    return Links(
        gpus_per_node,
        nodes,
        gpu.node_link_gb_s.value * GIGA * facts.shares["node_link"].value,
        gpu.node_network_gbit_s.value / 8 * GIGA * facts.shares["network"].value,
        facts.times["node_hop_us"].value * 1e-6,
        facts.times["network_hop_us"].value * 1e-6,
    )


def ring_seconds(bytes_: float, ranks: int, bytes_s: float, hop_s: float) -> float:
    """Of a reduce-scatter or an all-gather of so many bytes over one ring."""
    return (ranks - 1) * (bytes_ / ranks / bytes_s + hop_s)


def scatter_seconds(bytes_: float, links: Links) -> float:
    """Of a reduce-scatter over all ranks; an all-gather takes as long."""
    g = links.gpus_per_node
    inside = ring_seconds(bytes_, g, links.node_bytes_s, links.node_hop_s)
    # The g GPUs of a node run g rings over their shares at once, through the same adapters.
    between = ring_seconds(bytes_ / g, links.nodes, links.network_bytes_s / g, links.network_hop_s)
    return inside + between


def gather_seconds(bytes_: float, links: Links) -> float:
    """Of an all-gather over all ranks of so many bytes in the end."""
    return scatter_seconds(bytes_, links)


def all_reduce_seconds(bytes_: float, links: Links) -> float:
    """Of a sum over all ranks that all ranks get."""
    return scatter_seconds(bytes_, links) + gather_seconds(bytes_, links)


def broadcast_seconds(bytes_: float, links: Links) -> float:
    """Of what one rank tells all others: it goes from rank to rank in pieces, as fast as the slowest link."""
    slowest = links.node_bytes_s if links.nodes == 1 else min(links.node_bytes_s, links.network_bytes_s)
    hops_s = (
        links.nodes * (links.gpus_per_node - 1) * links.node_hop_s + (links.nodes - 1) * links.network_hop_s
    )
    return bytes_ / slowest + hops_s if links.ranks > 1 else 0.0
