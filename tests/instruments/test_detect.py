"""Which reader gets what in mixed trees, and the sum: read = accepted + quarantined."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

from aqqua.instruments import detect
from aqqua.instruments.image import SUFFIXES, EncodedImage
from aqqua.instruments.record import Found, ReadOptions, Record, Rejected
from aqqua.instruments.tree import Tree, open_tree


def fake_reader(name: str, table: str, *, fails: bool = False) -> ModuleType:
    """A reader of folders with a file `table` that lists images by name, one a line."""
    module = ModuleType(f"aqqua.instruments.{name}")

    def listed(tree: Tree) -> dict[str, str]:
        images = {}
        for member in tree.names(table):
            for line in tree.read(member).decode().split():
                images[(PurePosixPath(member).parent / line).as_posix()] = member
        return images

    def claim(tree: Tree) -> frozenset[str]:
        images = listed(tree)
        return frozenset([*tree.names(table), *(image for image in images if image in tree.members)])

    def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
        for image in listed(tree):
            if fails:
                raise OSError("the disk is gone")
            if image not in claimed:
                yield Rejected(source=image, reason="missing_image", detail="listed")
                continue
            yield Record(
                object_id=image.rsplit("/", 1)[-1],
                pixels=EncodedImage(image),
                instrument=name,
                um_per_px=options.um_per_px,
                sample="",
                group="",
                source=image,
            )

    module.NAME, module.claim, module.read = name, claim, read  # type: ignore[attr-defined]
    return module


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make fake readers the only ones beside `folder`."""

    def put(*readers: ModuleType) -> None:
        for reader in readers:
            monkeypatch.setitem(sys.modules, reader.__name__, reader)
        monkeypatch.setattr(detect, "READERS", (*(r.NAME for r in readers), "folder"))

    return put


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def outcome(found: Iterator[Found]) -> dict[str, str]:
    """Source -> reader for images, reason for refusals; every source once."""
    result: dict[str, str] = {}
    for item in found:
        assert item.source not in result
        result[item.source] = item.reason if isinstance(item, Rejected) else item.instrument
    return result


MIXED = {
    "cast/list.one": "1.png gone.png",
    "cast/1.png": "",
    "cast/extra.png": "",
    "cast/deep/extra.png": "",
    "other/list.two": "2.png",
    "other/2.png": "",
    "classes/Calanus/3.png": "",
    "top.png": "",
    "old.tar.gz": "",
    "notes.pkl": "",
}


def test_a_mixed_tree_is_shared_out(tmp_path: Path, install: Install) -> None:
    install(fake_reader("one", ".one"), fake_reader("two", ".two"))
    put(tmp_path, **MIXED)
    (tmp_path / "link.png").symlink_to(tmp_path / "top.png")
    assert outcome(detect.find(open_tree(tmp_path), ReadOptions())) == {
        "link.png": "link",
        "cast/1.png": "one",
        "cast/gone.png": "missing_image",
        "cast/extra.png": "unlisted_image",
        "cast/deep/extra.png": "unlisted_image",
        "other/2.png": "two",
        "classes/Calanus/3.png": "unknown",
        "top.png": "unknown",
        "old.tar.gz": "unsupported_format",
    }


def test_what_one_reader_claims_the_next_does_not_see(tmp_path: Path, install: Install) -> None:
    put(tmp_path, **{"list.one": "1.png", "list.two": "1.png", "1.png": ""})
    install(fake_reader("one", ".one"), fake_reader("two", ".two"))
    # The second is told of an image that is no longer there for it: a refusal, not a second record.
    found = list(detect.find(open_tree(tmp_path), ReadOptions()))
    assert [item.instrument for item in found if isinstance(item, Record)] == ["one"]


def test_one_reader_can_be_forced(tmp_path: Path, install: Install) -> None:
    install(fake_reader("one", ".one"), fake_reader("two", ".two"))
    put(tmp_path, **MIXED)
    tree = open_tree(tmp_path)
    images = {name for name in MIXED if name.endswith(".png")}
    assert images <= set(outcome(detect.find(tree, ReadOptions(), only="One")))
    folder = outcome(detect.find(tree, ReadOptions(), only="folder"))
    assert {name for name, by in folder.items() if by == "unknown"} == images
    with pytest.raises(ValueError, match="format: must be one of one, two, folder, got ifbc"):
        detect.find(tree, ReadOptions(), only="ifbc")


def test_an_input_of_nothing_known_says_so(tmp_path: Path, install: Install) -> None:
    install(fake_reader("one", ".one"))
    put(tmp_path, **{"readme.txt": "hello", "model.pkl": "x"})
    (item,) = detect.find(open_tree(tmp_path, label="cruise"), ReadOptions())
    assert isinstance(item, Rejected)
    assert (item.source, item.reason) == ("cruise", "unsupported_format")


def test_a_failing_disk_ends_a_reader_not_the_ingest(tmp_path: Path, install: Install) -> None:
    install(fake_reader("one", ".one", fails=True))
    put(tmp_path, **{"a/l.one": "1.png", "a/1.png": "", "b/2.png": ""})
    tree = open_tree(tmp_path, label="cruise")
    assert outcome(detect.find(tree, ReadOptions())) == {"cruise": "io_error", "b/2.png": "unknown"}


@pytest.mark.parametrize("name", detect.READERS)
def test_every_reader_keeps_the_contract(name: str, tmp_path: Path) -> None:
    reader = detect.load_reader(name)
    assert reader.NAME.lower() == name
    put(tmp_path, **{"readme.txt": "hello", "empty.tsv": "", "data.mdb": ""})
    tree = open_tree(tmp_path)
    claimed = reader.claim(tree)
    assert claimed <= set(tree.members)
    assert not any(isinstance(item, Record) for item in reader.read(tree, claimed, ReadOptions()))


def test_all_real_data_is_accounted_for(real_data: Path) -> None:
    tree = open_tree(real_data)
    sources, bad_rows, kinds = set(), set(), set()
    for item in detect.find(tree, ReadOptions()):
        sources.add(item.source.split("#")[0])
        if isinstance(item, Record):
            kinds.add(item.instrument)
            sources.add(getattr(item.pixels, "member", ""))  # collages hold many records
        elif isinstance(item, Rejected) and "#" in item.source:
            bad_rows.add(PurePosixPath(item.source.split("#")[0]).parent.as_posix())
    assert kinds >= {"IFCB", "UVP6", "FlowCam", "ZooScan", "PWSSC", "PlanktonImager", "LOKI", "unknown"}
    # A refused table row may name an image that then has no line of its own.
    silent = {
        name
        for name in tree.names(*SUFFIXES)
        if name not in sources and PurePosixPath(name).parent.as_posix() not in bad_rows
    }
    assert not silent, sorted(silent)[:5]
