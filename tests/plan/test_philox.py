"""Random draws: the published answers of Philox, and what a plan relies on."""

import numpy as np
import pytest

from aqqua.plan.philox import MAX_COUNT, Purpose, bits, philox4x32, uniforms

ONES = 0xFFFFFFFF

# Source: Random123 1.14, tests/kat_vectors, philox4x32 with 10 rounds: counter, key, answer.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def keys(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << 64, n, np.uint64)


def visits(n: int, visit: int = 0) -> np.ndarray:
    return np.full(n, visit, np.uint64)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers_of_random123(counter, key, answer):
    words = philox4x32(tuple(np.array([word], np.uint64) for word in counter), key)
    assert tuple(int(word[0]) for word in words) == answer


def test_counter_words_are_key_visit_purpose_and_seed_is_the_key():
    key, visit, seed = 0x85A308D3_243F6A88, 0x13198A2E, 0x299F31D0_A4093822
    got = bits(seed, np.array([key], np.uint64), np.array([visit], np.uint64), Purpose.MASK_BLOCKS, 7)[0]
    for block in (0, 1):
        counter = (0x243F6A88, 0x85A308D3, visit, (Purpose.MASK_BLOCKS << 16) + block)
        words = philox4x32(tuple(np.array([c], np.uint64) for c in counter), (0xA4093822, 0x299F31D0))
        expected = [int(word[0]) for word in words]
        assert got[4 * block : 4 * block + 4].tolist() == expected[: len(got) - 4 * block]


def test_a_draw_does_not_depend_on_what_is_drawn_beside_it():
    key, visit = keys(50), np.arange(50, dtype=np.uint64)
    whole = uniforms(3, key, visit, Purpose.VIEWS, 30)
    parts = [uniforms(3, key[i : i + 7], visit[i : i + 7], Purpose.VIEWS, 30) for i in range(0, 50, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(uniforms(3, key, visit, Purpose.VIEWS, 5), whole[:, :5])


@pytest.mark.parametrize(
    ("seed", "visit", "purpose", "key_step"),
    [
        (1, 0, Purpose.VIEWS, 0),
        (1 << 32, 0, Purpose.VIEWS, 0),
        (0, 1, Purpose.VIEWS, 0),
        (0, 1 << 24, Purpose.VIEWS, 0),
        (0, 0, Purpose.REPEAT, 0),
        (0, 0, Purpose.VIEWS, 1),
        (0, 0, Purpose.VIEWS, 1 << 40),
    ],
)
def test_seed_visit_purpose_and_image_each_give_other_draws(seed, visit, purpose, key_step):
    first = uniforms(0, keys(1000), visits(1000), Purpose.VIEWS, 8)
    other = uniforms(seed, keys(1000) + np.uint64(key_step), visits(1000, visit), purpose, 8)
    assert (first == other).mean() < 0.01
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.05


def test_draws_are_uniform_and_exact_in_float32():
    draw = uniforms(0, keys(20_000), visits(20_000), Purpose.VIEWS, 10)
    assert draw.min() >= 0
    assert draw.max() < 1
    counts = np.bincount((draw.ravel() * 100).astype(int), minlength=100)
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert 50 < chi_square < 170  # 99 degrees of freedom: beyond 4 σ on either side
    assert np.abs(np.corrcoef(draw.T) - np.eye(10)).max() < 0.04
    np.testing.assert_array_equal(draw.astype(np.float32).astype(np.float64), draw)


def test_purposes_have_distinct_numbers_that_fit_their_16_bits():
    numbers = [int(purpose) for purpose in Purpose]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 1 << 16


def test_no_images_or_no_draws_are_empty_and_too_many_are_refused():
    assert uniforms(0, keys(0), visits(0), Purpose.VIEWS, 5).shape == (0, 5)
    assert bits(0, keys(3), visits(3), Purpose.VIEWS, 0).shape == (3, 0)
    with pytest.raises(ValueError, match=f"count must be 0 to {MAX_COUNT}, got {MAX_COUNT + 1}"):
        bits(0, keys(1), visits(1), Purpose.VIEWS, MAX_COUNT + 1)
