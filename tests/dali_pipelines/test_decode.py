"""DALI's pages are Pillow's bit for bit; what it cannot take is decoded strictly or left empty, and named."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_files import drawn_files, encode, files_in, png_of, sizes_of_files, tiff_of, tile_bomb

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")

from aqqua.instruments.original import Original
from dali_pipelines import decode as module
from dali_pipelines.decode import Decoder

SETS = [
    ("isiis-ndsb.zip", 1000), ("pwssc.zip", 300), ("flowcam-vickot.zip", 400), ("uvp6/uvpec.zip", 200),
    ("microscopy/lake.zip", 60), ("zooscan/ecotaxa_ml_template/images.zip", 100), ("planktonimager", 10),
    ("planktonimager/2020_10_21-short.zip", 60), ("spc", 5), ("ifcb/cencoos-roi-jpg.zip", 230),
    ("ifcb/smhi-ifcb134", 40), ("ecotaxa", 150),
]  # fmt: skip


def assert_same(got: np.ndarray | torch.Tensor, want: np.ndarray) -> None:
    assert isinstance(got, np.ndarray)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_array_equal(got, want)
    assert got.flags.c_contiguous


def broken(one: Original) -> Original:
    """A header that holds, and no pixels."""
    return Original(one.data[: len(one.data) * 3 // 4], one.format)


@pytest.mark.parametrize("threads", [1, 3])
def test_drawn_files_of_every_kind(threads):
    files = drawn_files()
    sizes, want = sizes_of_files(files)
    found = Decoder(threads).decode(files, sizes)
    assert found.late == ()
    for got, pixels in zip(found.pages, want, strict=True):
        assert_same(got, pixels)


@pytest.mark.parametrize(("name", "most"), SETS)
def test_real_files(real_data, name, most):
    files = files_in(real_data / name, most)
    sizes, want = sizes_of_files(files)
    found = Decoder(1).decode(files, sizes)
    assert found.late == ()
    for got, pixels in zip(found.pages, want, strict=True):
        assert_same(got, pixels)


def test_pixels_are_passed_on_and_packs_may_have_any_length():
    files = drawn_files()
    sizes, want = sizes_of_files(files)
    decoder = Decoder(1)
    mixed = [pixels if i % 3 else file for i, (file, pixels) in enumerate(zip(files, want, strict=True))]
    found = decoder.decode(mixed, sizes)
    assert all(found.pages[i] is want[i] for i in range(len(files)) if i % 3)
    built = decoder.built
    for count in (1, 2, 300):
        rows = np.arange(count) % 2
        again = decoder.decode([files[i] for i in rows], sizes.take(rows))
        assert len(again.pages) == count
        for i, got in zip(rows.tolist(), again.pages, strict=True):
            assert_same(got, want[i])
    assert decoder.decode([], sizes.take(np.arange(0))).pages == []
    assert decoder.built == built


@pytest.mark.parametrize("batch", [3, 31])
def test_only_the_culprits_are_replaced(monkeypatch, batch, capfd):
    monkeypatch.setattr(module, "BATCH", batch)
    files = [one for one in drawn_files() for _ in range(4)]
    sizes, want = sizes_of_files(files)
    bad = {number for number in range(0, len(files), 9)}
    decoder = Decoder(2)
    found = decoder.decode([broken(one) if i in bad else one for i, one in enumerate(files)], sizes)
    late = {one.image: one for one in found.late}
    for i, got in enumerate(found.pages):
        if i in bad:
            assert isinstance(got, np.ndarray)
            assert (got.dtype, got.shape) == (want[i].dtype, want[i].shape)
            blank = np.broadcast_to(sizes.background[i, : 3 if got.ndim == 3 else 1], got.shape)
            # A PNG of one pixel has it all before the rest is missing: the strict decoder takes that.
            np.testing.assert_array_equal(got, blank if late[i].blank else want[i])
        else:
            assert i not in late
            assert_same(got, want[i])
    assert set(late) == bad
    assert sum(not one.blank for one in found.late) <= 1
    assert any("DALI: " in one.error for one in found.late)
    again = decoder.decode(files, sizes)
    assert again.late == ()
    capfd.readouterr()  # DALI's decoders say on their own what they meet


def test_what_stands_for_an_image_depends_on_the_image_alone(capfd):
    files = drawn_files()
    sizes, _ = sizes_of_files(files)
    damaged = [broken(one) if one.format == "JPEG" else one for one in files]
    whole = Decoder(2).decode(damaged, sizes)
    for i in range(len(files)):
        row = np.array([i])
        alone = Decoder(1).decode([damaged[i]], sizes.take(row))
        np.testing.assert_array_equal(alone.pages[0], whole.pages[i])
        assert [one.blank for one in alone.late] == [one.blank for one in whole.late if one.image == i]
    capfd.readouterr()


def test_a_file_that_dali_alone_refuses_is_decoded_strictly(monkeypatch):
    files = [encode(np.full((9, 9), 50 + i, np.uint8), "PNG") for i in range(5)]
    sizes, want = sizes_of_files(files)
    decoder, real = Decoder(1), Decoder._pages
    culprit = files[3].data

    def picky(self: Decoder, kind: object, data: list[np.ndarray]) -> object:
        if any(one.tobytes() == culprit for one in data):
            raise RuntimeError(
                "Critical error encountered: no such luck Current pipeline object is no longer valid."
            )
        return real(self, kind, data)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "_pages", picky)
    found = decoder.decode(files, sizes)
    assert [(one.image, one.error, one.blank) for one in found.late] == [(3, "DALI: no such luck", False)]
    for got, pixels in zip(found.pages, want, strict=True):
        assert_same(got, pixels)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_a_broken_dali_is_not_taken_for_broken_files(monkeypatch, form):
    """Not even where it fails at one format alone: a sound file of that one is asked."""
    files = [encode(np.full((9, 9), 50 + i, np.uint8), form) for i in range(3)]
    sizes, _ = sizes_of_files(files)

    def broken_dali(*_arguments: object) -> object:
        raise RuntimeError("Critical error encountered: no such codec")

    monkeypatch.setattr(Decoder, "_pages", broken_dali)
    with pytest.raises(RuntimeError, match=rf"a sound {form} file .* got DALI: no such codec; .*=parquet"):
        Decoder(1).decode(files, sizes)


def test_a_pipeline_that_cannot_be_built_is_no_fault_of_a_file(monkeypatch):
    files = [encode(np.zeros((9, 9), np.uint8), "PNG")]
    sizes, _ = sizes_of_files(files)

    real, calls = module.Pipeline, []

    def unbuilt(*arguments: Any, **named: Any) -> object:
        calls.append(1)
        if len(calls) == 1:  # a later one could be built: the file would pass for the culprit
            raise RuntimeError("no driver")
        return real(*arguments, **named)

    monkeypatch.setattr(module, "Pipeline", unbuilt)
    with pytest.raises(RuntimeError, match=r"able to build a pipeline, got no driver; .*backend=parquet"):
        Decoder(1).decode(files, sizes)


@pytest.mark.parametrize(
    "said", ["CUDA runtime API error cudaErrorMemoryAllocation (2)", "nvml: Out of memory", "std::bad_alloc"]
)
def test_what_the_machine_lacks_is_no_fault_of_a_file(monkeypatch, said):
    files = [encode(np.full((9, 9), 50 + i, np.uint8), "PNG") for i in range(5)]
    sizes, _ = sizes_of_files(files)
    real, culprit = Decoder._pages, files[3].data

    def full(self: Decoder, kind: object, data: list[np.ndarray]) -> object:
        if any(one.tobytes() == culprit for one in data):
            raise RuntimeError(f"Critical error encountered: {said}")
        return real(self, kind, data)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "_pages", full)
    with pytest.raises(RuntimeError, match=said.split()[0]):
        Decoder(1).decode(files, sizes)


def test_sound_files_that_dali_cannot_read_are_no_failures():
    """They never reach DALI, whose pipeline they would end in every pack."""
    grey = np.random.default_rng(0).integers(0, 256, (21, 34), np.uint8)
    files = [
        *(encode(grey, "TIFF", compression=way) for way in ("lzma", "tiff_lzw", "packbits", "zstd", "jpeg")),
        *(png_of(grey >> (8 - bits), bits) for bits in (2, 4, 8)),
        *(tiff_of(grey.tobytes(), 21, 34, **tags) for tags in ({"t339": (2,)}, {"t266": (2,)})),
        *(tiff_of(grey.tobytes() * 2, 21, 34, t258=(bits,)) for bits in (2, 4, 12)),
        tiff_of(grey.tobytes() * 2, 21, 34, t277=(2,), t258=(8, 8), t338=(0,)),
    ]
    sizes, want = sizes_of_files(files)
    decoder = Decoder(1)
    found = decoder.decode(files, sizes)
    assert found.late == ()
    assert decoder.built == 1
    for got, pixels in zip(found.pages, want, strict=True):
        assert_same(got, pixels)
    cut = [Original(one.data[:-40], one.format) for one in (files[0], files[6])]
    late = decoder.decode(cut, sizes.take(np.array([0, 6]))).late
    assert [one.blank for one in late] == [True, True]


def test_a_bomb_is_blank_by_either_decoder():
    one = tile_bomb(21, 34)
    sizes, _ = sizes_of_files([encode(np.zeros((21, 34), np.uint8), "PNG")])
    (late,) = Decoder(1).decode([one], sizes).late
    assert late.blank
    assert late.error.count("in tiles of which a side is 32768") == 2


def test_a_png_with_a_wrong_checksum_is_blank(capfd):
    """DALI refuses it, and Pillow alone would make other pixels of it."""
    good = encode(np.random.default_rng(0).integers(0, 256, (21, 34), np.uint8), "PNG")
    sizes, _ = sizes_of_files([good])
    wrong = bytearray(good.data)
    wrong[-13] ^= 1
    (late,) = Decoder(1).decode([Original(bytes(wrong), "PNG")], sizes).late
    assert late.blank
    assert late.error.startswith("DALI: refused without a reason; ")
    assert "another checksum" in late.error
    capfd.readouterr()


def test_a_batch_is_smaller_than_what_crashes_dali():
    """From 32 files on DALI 2.4.0 reads headers in several threads: see the comment at BATCH."""
    assert module.BATCH < 32


def test_pages_that_are_not_of_the_row_are_refused():
    colour = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    files = [encode(colour, "PNG")]
    sizes, _ = sizes_of_files(files)
    grey = sizes.take(np.array([0]))
    grey.channels[:] = 1
    found = Decoder(1).decode(files, grey)
    assert found.late[0].blank
    assert "colour instead of grey" in found.late[0].error
    assert np.asarray(found.pages[0]).shape == (8, 8)


def test_no_memory_is_no_fault_of_the_file(monkeypatch):
    def full(*_arguments: object) -> np.ndarray:
        raise MemoryError("none left")

    monkeypatch.setattr(module, "decode_original", full)
    files = [Original(b"\xff\xd8", "JPEG")]
    sizes, _ = sizes_of_files([encode(np.zeros((4, 4), np.uint8), "JPEG")])
    with pytest.raises(MemoryError, match="none left"):
        Decoder(1).decode(files, sizes)


def test_threads_end_with_close():
    def threads() -> set[str]:
        return {task.name for task in Path("/proc/self/task").iterdir()}

    files = drawn_files()
    sizes, _ = sizes_of_files(files)
    decoder = Decoder(2)
    gc.collect()  # pipelines that failed before may still hang on their errors
    before = threads()
    decoder.decode(files, sizes)
    assert threads() - before
    decoder.close()
    assert not threads() - before  # fewer than before is fine: a library's idle thread may end
    assert decoder.decode(files, sizes).late == ()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_pages_stay_there_and_are_nearly_pillows():
    """PNG and TIFF bit for bit; a JPEG by nvJPEG within rounding of its inverse DCT."""
    files = drawn_files()
    sizes, want = sizes_of_files(files)
    found = Decoder(2, "cuda").decode(files, sizes)
    assert found.late == ()
    for one, got, pixels in zip(files, found.pages, want, strict=True):
        assert isinstance(got, torch.Tensor)
        assert got.is_cuda
        difference = np.abs(got.cpu().numpy().astype(int) - pixels.astype(int)).max()
        assert difference <= (3 if one.format == "JPEG" else 0)
