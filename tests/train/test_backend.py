"""Training with files decoded, and rendered, by DALI: the losses of the default path; late failures borne."""

import gc
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from damaged_files import changed_copy, damaged_copy
from filed_blobs import KINDS, FiledBlobs
from PIL import Image
from same_run import numbers

from aqqua.store.read import DamagedError, Dataset
from aqqua.train import backend, checkpoint, metrics
from aqqua.train.batch import Shape
from aqqua.train.data import Feeder, StepData
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.headline import headline
from aqqua.train.loop import pretrain
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")

from dali_pipelines.decode import Decoded, Late

MakeConfig = Callable[..., PretrainConfig]


def picture(pixels: np.ndarray, number: int) -> Image.Image:
    """Every fifth of 16 bits where the format has them, every seventh in colour."""
    if number % 5 == 0 and KINDS[number % 4][0] in ("PNG", "TIFF"):
        return Image.fromarray(pixels.astype(np.uint16) * 257)
    if number % 7 == 0:
        return Image.fromarray(np.dstack([pixels, pixels // 2, 255 - pixels]))
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def kept(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The blobs as files of four formats, three of which are kept."""
    folder = tmp_path_factory.mktemp("kept")
    return FiledBlobs(dataset, folder / "in", picture).ingest(folder / "d", keep_encoded=True)


def rows_of(path: Path, form: str) -> list[int]:
    formats = Dataset.open(path).table(["format"])["format"].to_pylist()
    return [row for row, found in enumerate(formats) if found == form]


def made_feeder(config: PretrainConfig, rank: int = 0, ranks: int = 1, device: str = "cpu") -> Feeder:
    shape = Shape.of(config.model, config.views, torch.float32)
    rooms = (Dataset.open(config.data.path), config.data, config.views, config.masks, shape)
    return Feeder(*rooms, seed=config.seed, rank=rank, ranks=ranks, device=device)


@pytest.fixture
def feeder() -> Iterator[Callable[..., Feeder]]:
    """Makes feeders, closed when the test ends."""
    with ExitStack() as made:
        yield lambda *args, **options: made.enter_context(closing(made_feeder(*args, **options)))


def steps(config: PretrainConfig, count: int) -> list[StepData]:
    with closing(made_feeder(config)) as one, closing(one.steps(one.start(), 0)) as found:
        return list(islice(found, count))


def losses(run: Path) -> list[list[float]]:
    return [list(line["loss"].values()) for line in numbers(run)]


def test_decoded_by_dali_a_run_has_the_same_losses_and_weights(make_config, tmp_path, kept):
    tensors = []
    for name in ("parquet", "dali"):
        run = pretrain(
            make_config(tmp_path / name, data={"path": kept, "backend": name}, train={"max_steps": 4})
        )
        saved = checkpoint.load_newest(tmp_path / name / CHECKPOINTS)
        assert saved is not None
        tensors.append(saved.tensors)
        assert f"data.backend {name}" in headline(run)
    assert numbers(tmp_path / "dali") == numbers(tmp_path / "parquet")
    assert numbers(tmp_path / "dali")[-1]["late_images"] == {"strict": 0, "blank": 0}
    assert [name for name in tensors[0] if not torch.equal(tensors[0][name], tensors[1][name])] == []


def test_rendered_by_dali_the_losses_are_near(make_config, tmp_path, kept):
    for renderer, name in (("native", "parquet"), ("dali", "dali")):
        data = {"path": kept, "backend": name, "renderer": renderer}
        run = pretrain(make_config(tmp_path / renderer, data=data, train={"max_steps": 3}))
        assert f"data.renderer {renderer}" in headline(run)
    torch.testing.assert_close(losses(tmp_path / "dali"), losses(tmp_path / "native"), rtol=1e-3, atol=1e-4)


def test_a_run_stopped_and_continued_is_a_run(make_config, tmp_path, kept):
    data = {"path": kept, "backend": "dali"}
    pretrain(make_config(tmp_path / "whole", data=data, train={"max_steps": 6}))
    for last in (2, 6):
        pretrain(make_config(tmp_path / "cut", data=data, train={"max_steps": last}))
    assert numbers(tmp_path / "cut") == numbers(tmp_path / "whole")
    got, want = (checkpoint.load_newest(tmp_path / one / CHECKPOINTS) for one in ("cut", "whole"))
    assert got is not None
    assert want is not None
    assert all(torch.equal(got.tensors[name], want.tensors[name]) for name in want.tensors)


def test_ranks_may_change_in_the_middle(make_config, tmp_path, kept, feeder):
    """Two ranks, then one, then two: each lane's rows are those of one rank alone; a blank image too."""
    bad = {row: (lambda data: data[: len(data) // 2]) for row in rows_of(kept, "JPEG")}
    path = changed_copy(kept, tmp_path / "bad", bad)
    data = {"path": path, "backend": "dali", "lanes": 4, "max_bad_share": 1.0}
    config = make_config(tmp_path, data=data)
    alone = feeder(config)
    states, step = alone.start(), 0
    for ranks in (2, 1, 2):
        crew = [feeder(config, rank=rank, ranks=ranks) for rank in range(ranks)]
        for _ in range(2):
            whole = alone.step(states, step)
            parts = [one.step({lane: states[lane] for lane in one.packers}, step) for one in crew]
            rows = {
                lane: part.batches[i].patches_NF
                for one, part in zip(crew, parts, strict=True)
                for i, lane in enumerate(one.packers)
            }
            for lane, batch in zip(alone.packers, whole.batches, strict=True):
                assert torch.equal(rows[lane], batch.patches_NF)
            key = {(one.block, one.row) for part in parts for one in part.late_images}
            assert key == {(one.block, one.row) for one in whole.late_images} != set()
            states, step = {k: v for part in parts for k, v in part.states.items()}, step + 1
            assert states == whole.states


def test_a_run_with_late_failures_is_stopped_and_continued_as_well(make_config, tmp_path, kept, monkeypatch):
    """What was noted stays noted, what came after the checkpoint comes once, named or only counted."""
    monkeypatch.setattr(metrics, "NAMED_IMAGES", 12)
    jpegs, pngs = rows_of(kept, "JPEG"), rows_of(kept, "PNG")
    bad = {**dict.fromkeys(jpegs, with_pictures), **dict.fromkeys(pngs, lambda data: data[:-30])}
    data = {"path": changed_copy(kept, tmp_path / "bad", bad), "backend": "dali", "max_bad_share": 1.0}
    pretrain(make_config(tmp_path / "whole", data=data, train={"max_steps": 6}))
    pretrain(make_config(tmp_path / "cut", data=data, train={"max_steps": 2}))
    late = tmp_path / "cut" / "late_images.jsonl"
    with late.open("a") as file:  # of steps that the checkpoint does not know, and a line cut short
        file.write(json.dumps({"step": 3, "strict": 40, "blank": 2}) + '\n{"step": 3, "stri')
    pretrain(make_config(tmp_path / "cut", data=data, train={"max_steps": 6}))
    assert late.read_text() == (tmp_path / "whole" / "late_images.jsonl").read_text()
    notes = [json.loads(line) for line in late.read_text().splitlines()]
    named = [note for note in notes if "block" in note]
    assert len({(note["block"], note["row"]) for note in named}) == len(named) == 12
    assert notes[0]["step"] <= 2 < notes[-1]["step"]
    further = [note for note in notes if "block" not in note]
    want = {
        stands: sum(note["stands"] == stands for note in named) + sum(note[stands] for note in further)
        for stands in ("strict", "blank")
    }
    assert numbers(tmp_path / "cut")[-1]["late_images"] == want
    assert numbers(tmp_path / "cut") == numbers(tmp_path / "whole")
    assert min(want.values()) > 0


def with_pictures(data: bytes) -> bytes:
    """A JPEG with an empty directory of several pictures: DALI is not asked, the strict decoder takes it."""
    return data[:2] + b"\xff\xe2\0\x06MPF\0" + data[2:]


def test_files_that_fail_late_are_replaced_counted_and_named(make_config, tmp_path, kept):
    jpegs, pngs = rows_of(kept, "JPEG"), rows_of(kept, "PNG")

    def turned(data: bytes) -> bytes:
        """With an orientation tag: DALI is not asked, and the strict decoder refuses."""
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]

    change = {**dict.fromkeys(jpegs[:20], turned), **dict.fromkeys(jpegs[20:40], with_pictures)}
    change |= dict.fromkeys(pngs[:20], lambda data: data[:-30])
    path = changed_copy(kept, tmp_path / "bad", change)
    data = {"path": path, "backend": "dali", "max_bad_share": 1.0, "holdout": 0.0}
    pretrain(make_config(tmp_path / "run", data=data, train={"max_steps": 12}))
    notes = [json.loads(line) for line in (tmp_path / "run" / "late_images.jsonl").read_text().splitlines()]
    dataset = Dataset.open(path)
    keys = dataset.table(["key"])["key"].to_pylist()
    for note in notes:
        row = note["block"] * 64 + note["row"]
        assert row in change
        assert note["key"] == keys[row]
        assert (note["file"], note["row_group"]) == dataset.place(note["block"])
        assert note["stands"] == ("strict" if change[row] is with_pictures else "blank")
        assert set(note) == {*("step", "block", "row", "key", "file", "row_group", "stands", "error")}
    assert len({(note["block"], note["row"]) for note in notes}) == len(notes) > 10
    counted = [note["stands"] for note in notes]
    want = {stands: counted.count(stands) for stands in ("strict", "blank")}
    assert numbers(tmp_path / "run")[-1]["late_images"] == want
    assert min(want.values()) > 0

    # The same images, the strict ones with their own pixels, the blank ones empty.
    clean = steps(make_config(tmp_path, data={**data, "path": kept, "backend": "parquet"}), 3)
    found = steps(make_config(tmp_path, data=data), 3)
    for a, b in zip(clean, found, strict=True):
        assert a.states == b.states
        late = {(one.block, one.row): one.blank for one in b.late_images}
        for pack, x, y in zip(a.packs, a.batches, b.batches, strict=True):
            differs = torch.tensor(
                [late.get((blk, row), False) for blk, row in zip(pack.block_I, pack.row_I, strict=True)]
            )[torch.from_numpy(pack.image_V)].repeat_interleave(torch.from_numpy(pack.patches_V).long())
            same = (x.patches_NF == y.patches_NF).all(dim=1)
            assert bool(same[~differs].all())
            assert not bool(same[differs].all()) or not differs.any()


def test_too_many_blank_images_end_the_run(make_config, tmp_path, kept, monkeypatch):
    monkeypatch.setattr(backend, "FAIR_IMAGES", 20)
    path = changed_copy(kept, tmp_path / "bad", dict.fromkeys(rows_of(kept, "JPEG"), lambda _: b""))
    config = make_config(tmp_path, data={"path": path, "backend": "dali"})
    with pytest.raises(
        DamagedError, match=r"at most 1 image or 1.00% of \d+ may be blank .* raise data.max_"
    ):
        steps(config, 5)


def test_what_cannot_serve_is_refused_before_anything_is_written(
    make_config, tmp_path, dataset, kept, monkeypatch
):
    config = make_config(tmp_path / "run", data={"path": dataset, "backend": "dali"})
    with pytest.raises(ValueError, match=r"data.backend=dali must have original files .* --keep-encoded"):
        open_run(config)
    monkeypatch.setattr("dali_pipelines.unusable", lambda: "DALI is not installed: pip install")
    for setting in ("backend", "renderer"):
        config = make_config(tmp_path / "run", data={"path": kept, setting: "dali"})
        with pytest.raises(ValueError, match=rf"data.{setting}=dali must be able to serve here: DALI is not"):
            open_run(config)
    assert not (tmp_path / "run").exists()


def test_a_feeder_leaves_no_thread_behind(make_config, tmp_path, kept, feeder):
    def native_threads() -> set[str]:
        return {task.name for task in Path("/proc/self/task").iterdir()}

    config = make_config(
        tmp_path, data={"path": kept, "backend": "dali", "renderer": "dali", "dali_threads": 4}
    )
    steps(config, 1)  # what libraries keep for good is there now
    gc.collect()  # other tests' pipelines may still hang on their errors
    before, known = native_threads(), set(threading.enumerate())
    one = feeder(config)
    walk = one.steps(one.start(), 0)
    next(walk)
    assert len(native_threads() - before) > 4
    walk.close()
    assert not native_threads() - before  # fewer than before is fine: a library's idle thread may end
    assert set(threading.enumerate()) == known


def test_a_wait_for_files_can_be_ended(make_config, tmp_path, kept, monkeypatch, feeder):
    over, waits, real = threading.Event(), threading.Event(), Dataset.files_with

    def hang(self: Dataset, block: int, columns: Sequence[str]) -> Any:
        waits.set()
        over.wait(60)
        return real(self, block, columns)

    data = {"path": kept, "backend": "dali", "read_ahead_mb": 0}
    one = feeder(make_config(tmp_path, data=data))
    walk = one.steps(one.start(), 0, stop=waits.is_set)
    next(walk)
    monkeypatch.setattr(Dataset, "files_with", hang)
    for _ in walk:
        assert not one.reader.closed
    over.set()
    assert waits.is_set()
    assert one.reader.closed


def test_the_late_images_of_a_replacement_are_named_where_they_lie(make_config, tmp_path, kept, feeder):
    """Every file is damaged, so each image planned from block 2 fails in the block that stands for it."""
    files = [row for form in ("JPEG", "PNG", "TIFF") for row in rows_of(kept, form)]
    bad = changed_copy(kept, tmp_path / "late", dict.fromkeys(files, lambda data: data[:2]))
    path = damaged_copy(bad, tmp_path / "both", [2], "encoded")
    config = make_config(tmp_path, data={"path": path, "backend": "dali", "max_bad_share": 1.0})
    one = feeder(config)
    states, found, data = one.start(), set[tuple[int, int]](), None
    for step in range(20):
        planned = [packer.next_pack(states[lane])[0] for lane, packer in one.packers.items()]
        data = one.step(states, step)
        states = data.states
        assert 2 not in {late.block for late in data.late_images}
        rows = {r for pack in planned for b, r in zip(pack.block_I, pack.row_I, strict=True) if b == 2}
        for instead in (bad.replacement for bad in data.bad_blocks):
            want = {(instead, row) for row in rows if instead * 64 + row in files}
            assert want <= {(late.block, late.row) for late in data.late_images}
            found |= want
    assert found


class Refusing:
    """In place of a Decoder: takes all images but some."""

    device = torch.device("cpu")

    def __init__(self, blank: Sequence[int] = (), strict: Sequence[int] = ()) -> None:
        self.blank, self.strict = blank, strict

    def decode(self, images: Sequence[Any], _sizes: Any) -> Decoded:
        late = [Late(i, f"torn {i}", i in self.blank) for i in sorted({*self.blank, *self.strict})]
        return Decoded(list(images), tuple(late))


class Images:
    """A pack of `count` images, as far as a FileDecoder looks."""

    def __init__(self, first: int, count: int) -> None:
        self.block_I, self.row_I = np.zeros(count, np.int64), np.arange(first, first + count)
        self.sizes = SimpleNamespace(key=self.row_I.astype(np.uint64) * 3)


def decoder_of(kept: Path, share: float, **refused: Sequence[int]) -> backend.FileDecoder:
    found = backend.FileDecoder(
        Dataset.open(kept), max_bad_share=share, threads=1, device=torch.device("cpu")
    )
    found._decoder = Refusing(**refused)  # type: ignore[assignment]
    return found


def decode(decoder: backend.FileDecoder, first: int, count: int) -> list[backend.LateImage]:
    return decoder.pages(Images(first, count), [np.zeros((1, 1), np.uint8)] * count)[1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "blank",
            r"may be blank because .*, got 2 in 20, the last of them: torn 3; see aqqua dataset",
        ),
        ("strict", r"refused by DALI, got 2 in 20, of which 2 could .* torn 3; use data.backend=parquet, or"),
    ],
)
def test_one_image_may_fail_and_a_share_not_a_second(kept, kind, said):
    decoder = decoder_of(kept, 0.0, **{kind: [3]})
    assert decode(decoder, 0, 10) == [backend.LateImage(0, 3, 9, kind == "blank", "torn 3")]
    with pytest.raises(DamagedError, match=said):
        decode(decoder, 10, 10)
    with pytest.raises(DamagedError):  # from then on
        decode(decoder, 0, 10)


def test_the_share_is_of_all_images_so_far(kept, monkeypatch):
    monkeypatch.setattr(backend, "FAIR_IMAGES", 20)
    decoder = decoder_of(kept, 0.1, blank=[0])
    for first in range(0, 200, 10):  # 20 of 200
        decode(decoder, first, 10)
    with pytest.raises(DamagedError, match=r"1 image or 10.00% of 205 may be blank .* got 21 in 205"):
        decode(decoder, 200, 5)


def test_blank_and_strict_images_count_together(kept, monkeypatch):
    monkeypatch.setattr(backend, "FAIR_IMAGES", 20)
    decoder = decoder_of(kept, 0.2, blank=[0], strict=[1, 2])
    decode(decoder, 0, 10)
    with pytest.raises(DamagedError, match="refused by DALI, got 6 in 20, of which 4 could be decoded"):
        decode(decoder, 10, 10)


def test_a_dali_that_cannot_be_loaded_is_named(monkeypatch):
    def gone(_name: str) -> None:
        raise ImportError("libnvimgcodec.so.0: no such file")

    monkeypatch.setattr(backend, "import_module", gone)
    with pytest.raises(RuntimeError, match=r"installed but cannot be loaded \(libnv.* data.backend=parquet"):
        backend.served_backend("dali")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_pages_go_to_the_renderer_where_they_lie(make_config, tmp_path, kept, feeder):
    """Within what nvJPEG rounds otherwise: 3 grey levels of 255, at a scale of some 6."""
    found = {}
    for name in ("parquet", "dali"):
        config = make_config(tmp_path, data={"path": kept, "backend": name, "renderer": "triton"})
        one = feeder(config, device="cuda")
        found[name] = [batch.patches_NF for batch in one.step(one.start(), 0).batches]
    for a, b in zip(*found.values(), strict=True):
        assert b.is_cuda
        torch.testing.assert_close(b, a, atol=0.08, rtol=0)
