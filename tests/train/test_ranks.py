"""Who a process is, from the variables of torchrun and srun; and a run of one, which talks to nobody."""

import pytest
import torch
from crew import free_port
from hypothesis import given
from hypothesis import strategies as st

from aqqua.train.ranks import Place, RankError, Ranks, first_host, join, place_of

SRUN = {
    "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "hkn[0801-0802]", "SLURM_NTASKS": "8",
}  # fmt: skip


def test_torchrun_says_it_all():
    environ = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "n7", "MASTER_PORT": "29500"}
    assert place_of(environ) == Place(5, 8, 1, "n7", 29500)
    assert place_of(SRUN | environ) == Place(5, 8, 1, "n7", 29500)  # torchrun inside a job step


def test_srun_gives_the_rest():
    place = place_of(SRUN)
    assert (place.rank, place.size, place.local_rank, place.host) == (3, 8, 1, "hkn0801")
    others = {place_of(SRUN | changed).port for changed in ({"SLURM_JOB_ID": "4712"}, {"SLURM_STEP_ID": "1"})}
    assert len({place.port, *others}) == 3
    assert all(20_000 <= port < 32_768 for port in {place.port, *others})
    assert place_of(SRUN | {"MASTER_ADDR": "n9", "MASTER_PORT": "1234"}).host == "n9"


def test_no_launcher_is_alone_and_so_is_a_batch_script():
    assert place_of({}) == Place(0, 1, 0)
    batch = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "hkn[1-2]"}
    assert place_of(batch).size == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK must be under WORLD_SIZE, got 2 of 2"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK must be a number, got 'one'"),
        ({"SLURM_PROCID": "-1"}, "SLURM_PROCID must be a number"),
    ],
)
def test_what_are_no_ranks_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        place_of(SRUN | changed)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("hkn0801", "hkn0801"),
        ("hkn0801,hkn0900", "hkn0801"),
        ("hkn[0801-0803,0810],x7", "hkn0801"),
        ("x7,hkn[0801-0803]", "x7"),
        ("hkn[0007,0009].local", "hkn0007.local"),
        ("rack[2-3]node[14-15]", "rack2node14"),
        ("n1-2.cluster.example", "n1-2.cluster.example"),
    ],
)
def test_the_first_host_of_a_node_list(nodes, host):
    assert first_host(nodes) == host


@given(st.text("hkn", min_size=1), st.integers(0, 999), st.integers(1, 50), st.integers(1, 4))
def test_the_first_host_of_any_range(prefix, first, count, digits):
    assert (
        first_host(f"{prefix}[{first:0{digits}}-{first + count:0{digits}}]") == f"{prefix}{first:0{digits}}"
    )


def test_a_rank_that_never_comes_is_not_waited_for_for_ever(monkeypatch):
    port = str(free_port())
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    message = rf"rank 0 of 2: all ranks must meet at 127.0.0.1:{port} within 2 s"
    with pytest.raises(RankError, match=message), join(2.0, 1.0, "cpu"):
        pass


def test_alone_every_call_answers_at_once():
    with join(10.0, 10.0, "cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
        x = torch.arange(3.0)
        assert torch.equal(ranks.all_reduce(x, "max"), torch.arange(3.0))
        assert ranks.broadcast(x) is x
        assert ranks.table([1, -5]) == [[1, -5]]
        assert ranks.sum(7) == 7
        assert ranks.gather({"a": 1}) == [{"a": 1}]
        assert ranks.share([2]) == [2]
        assert ranks.on_first(lambda: 3) == 3
        assert ranks.share_tensors({"x": x}, torch.device("cpu")) == {"x": x}
        with pytest.raises(OSError, match="full"):
            ranks.on_first(lambda: (_ for _ in ()).throw(OSError("full")))
    assert Ranks().size == 1
