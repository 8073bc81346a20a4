import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.cost.collectives import (
    Links,
    all_reduce_seconds,
    broadcast_seconds,
    gather_seconds,
    links_of,
    ring_seconds,
    scatter_seconds,
)
from aqqua.cost.facts import load_facts

NODE = Links(4, 1, node_bytes_s=100e9, network_bytes_s=50e9, node_hop_s=0, network_hop_s=0)


def test_a_ring_by_hand():
    # 8 ranks: 7 hops of an eighth of 16 GB at 2 GB/s, and 7 latencies.
    assert ring_seconds(16e9, 8, 2e9, 0.25) == pytest.approx(7 * (2e9 / 2e9 + 0.25))
    assert ring_seconds(16e9, 1, 2e9, 0.25) == 0


def test_a_node_by_hand():
    # 3/4 of 40 GB at 100 GB/s each way.
    assert scatter_seconds(40e9, NODE) == pytest.approx(0.3)
    assert gather_seconds(40e9, NODE) == pytest.approx(0.3)
    assert all_reduce_seconds(40e9, NODE) == pytest.approx(0.6)


def test_two_nodes_by_hand():
    two = Links(4, 2, node_bytes_s=100e9, network_bytes_s=50e9, node_hop_s=0.001, network_hop_s=0.01)
    # In the node as above and 3 hops; then half of each GPU's quarter, by a quarter of the 50 GB/s, and a
    # hop.
    assert scatter_seconds(40e9, two) == pytest.approx(0.3 + 0.003 + 5e9 / 12.5e9 + 0.01)


def test_nothing_to_tell_alone():
    assert all_reduce_seconds(1e9, Links(1, 1, 1, 1, 1, 1)) == 0


def test_a_broadcast_by_hand():
    two = Links(4, 2, node_bytes_s=100e9, network_bytes_s=50e9, node_hop_s=0.001, network_hop_s=0.01)
    assert broadcast_seconds(40e9, NODE) == pytest.approx(0.4)
    assert broadcast_seconds(40e9, two) == pytest.approx(0.8 + 6 * 0.001 + 0.01)  # as fast as the network
    assert broadcast_seconds(40e9, Links(1, 1, 1, 1, 1, 1)) == 0


@given(
    st.integers(1, 8),
    st.integers(1, 63),
    st.integers(0, 10**11),  # whole bytes: near 1e-323 no number lies between, and a share rounds to another
    st.floats(1e9, 1e12),
    st.floats(1e9, 1e12),
    st.floats(0, 1e-3),
)
def test_more_nodes_are_never_quicker(gpus, nodes, bytes_, inside, outside, hop):
    few, more = (Links(gpus, n, inside, outside, hop, hop) for n in (nodes, nodes + 1))
    assert scatter_seconds(bytes_, more) >= scatter_seconds(bytes_, few)
    twice = Links(gpus, nodes, 2 * inside, 2 * outside, hop, hop)
    assert all_reduce_seconds(bytes_, twice) <= all_reduce_seconds(bytes_, few)


def test_links_of_a_gpu():
    facts = load_facts()
    links = links_of(facts.gpu("A100-40"), facts, nodes=2, gpus_per_node=4)
    assert links.ranks == 8
    assert links.node_bytes_s == pytest.approx(300e9 * facts.shares["node_link"].value)
    assert links.network_bytes_s == pytest.approx(25e9 * facts.shares["network"].value)
