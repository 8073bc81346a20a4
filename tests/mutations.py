"""Ways to damage bytes, drawn from a random generator: the same seed gives the same damage."""

import random


def flip_bits(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def change_head(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 2, 4])):
        changed[draw.randrange(min(len(changed), 200))] = draw.randrange(256)
    return bytes(changed)


def change_tail(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    """Where zip keeps its directory and Parquet its footer."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 2, 4])):
        changed[-1 - draw.randrange(min(len(changed), 400))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF])
    return bytes(changed)


def cut(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def leave_out(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    start = draw.randrange(len(data))
    return data[:start] + data[start + draw.randrange(1, 200) :]


def splice(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """The head of one and the rest of another."""
    return data[: draw.randrange(len(data))] + other[draw.randrange(len(other)) :]


def insert(draw: random.Random, data: bytes, other: bytes) -> bytes:
    place, start = draw.randrange(len(data)), draw.randrange(len(other))
    return data[:place] + other[start : start + draw.randrange(1, 400)] + data[place:]


def lie(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    """Four bytes that may be a size or a count become an extreme one."""
    place = draw.randrange(max(len(data) - 4, 1))
    size = draw.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    return data[:place] + size.to_bytes(4, draw.choice(["little", "big"])) + data[place + 4 :]


WORDS = [
    *(b"nan", b"-inf", b"1e999", b"-1", b"0", b"\xff\xfe", b"\0", b"\t\t\t", b"\n\n", b'"', b"9" * 400),
    *(b"../../etc/passwd", b"=cmd()", "\u202e".encode(), b"[t]", b"12,5", b"- - -", b"&a [*a]", b"{{{"),
]


def put_word(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    """A word that readers of text fall over, in place of some bytes."""
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.choice(WORDS) + data[place + draw.randrange(0, 12) :]


MUTATIONS = (flip_bits, flip_bits, change_head, change_tail, cut, leave_out, splice, insert, lie, put_word)


def mutant(draw: random.Random, originals: list[bytes]) -> bytes:
    """One of the originals, damaged once or a few times."""
    data = draw.choice(originals)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        if not data:
            break
        data = draw.choice(MUTATIONS)(draw, data, draw.choice(originals))
    return data
