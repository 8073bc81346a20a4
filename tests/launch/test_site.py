"""The facts of clusters: found by name or path, checked, and named in the messages."""

import pytest

from aqqua.launch.site import known_sites, load_site

TINY = "name: Test\ndefault_partition: main\npartitions:\n  main: {gpus_per_node: 0, cpus_per_node: 1, "
TINY += "memory_gib_per_node: 4, max_hours: 1}\n"


def test_horeka_offers_its_gpu_partitions():
    site = load_site("horeka")
    assert known_sites() == ["horeka"]
    assert {name: (p.gpu, p.gpus_per_node, p.max_hours) for name, p in site.partitions.items()} == {
        "gpu-h100": ("H100", 4, 48), "gpu-h200": ("H200", 4, 48), "gpu-h200-8": ("H200", 8, 48),
        "dev-gpu-h100": ("H100", 4, 1),
    }  # fmt: skip
    assert site.default_partition == "gpu-h100"
    assert site.confirm, "what KIT has not published stays marked"


def test_another_cluster_is_one_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(TINY)
    site = load_site(str(tmp_path / "mine.yaml"))
    assert site.partition("main").ranks_per_node == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TINY.replace("main:", "other:"), "partition must be one of other .Test., got main"),
        (TINY + "memory_shard: 1\n", "memory_shard.*memory_share"),
        (TINY.replace("max_hours: 1", "max_hours: 0"), "max_hours"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_site(str(tmp_path / "mine.yaml"))


def test_an_unknown_cluster_names_those_there_are():
    with pytest.raises(ValueError, match="must be horeka, or a YAML file of another cluster, got juwels"):
        load_site("juwels")


def test_a_partition_with_a_typing_error_names_the_nearest():
    with pytest.raises(ValueError, match=r"got gpu-h10; did you mean gpu-h100\?"):
        load_site("horeka").partition("gpu-h10")
