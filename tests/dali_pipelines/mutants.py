"""Thousands of damaged image files through the decoder, in a process of its own: a crash would be its end.

    python mutants.py COUNT [FILE.zip ...]

Prints what became of them as one JSON line. The mutants depend on the number and the files alone.
"""

import json
import random
import resource
import sys
import time
import zlib
from pathlib import Path

import numpy as np
from made_files import drawn_files, files_in, sizes_of_files, tile_bomb
from mutations import change_head, cut, flip_bits, insert, leave_out, splice

from aqqua.instruments.original import Original
from dali_pipelines.decode import Decoder

PACK = 250  # mutants that are decoded as one pack
ROOM = 512 << 20  # bytes of address space beyond those in use: a file that lies of its size must not get more


def lie(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    """Another size, with the checksum to it, where the format keeps its size."""
    changed = bytearray(data)
    size = draw.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
    if data[:4] == b"\x89PNG":
        place = draw.choice([16, 20])
        changed[place : place + 4] = size.to_bytes(4, "big")
        changed[29:33] = zlib.crc32(changed[12:29]).to_bytes(4, "big")
    elif data[:2] == b"\xff\xd8":
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"), 0)
        place = frame + draw.choice([5, 7])
        changed[place : place + 2] = (size & 0xFFFF).to_bytes(2, "big")
    else:
        order = "little" if data[:2] == b"II" else "big"
        entry = int.from_bytes(data[4:8], order) + 2 + 12 * draw.randrange(10)
        changed[entry + 8 : entry + 12] = size.to_bytes(4, order)
    return bytes(changed)


def empty(draw: random.Random, data: bytes, _other: bytes) -> bytes:
    return draw.choice([b"", data[:2], data[:4], data[:9], bytes(len(data))])


def other_format(_draw: random.Random, _data: bytes, other: bytes) -> bytes:
    return other


MUTATIONS = (flip_bits, flip_bits, change_head, cut, leave_out, splice, insert, lie, empty, other_format)


def main(count: int, archives: list[str]) -> None:
    started = time.perf_counter()
    originals = drawn_files() + [one for name in archives for one in files_in(Path(name), 60)]
    sizes, _ = sizes_of_files(originals)
    draw, decoder = random.Random(5), Decoder(2)
    decoder.decode(originals, sizes)  # threads, their stacks and arenas are there
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    found = {"decoded": 0, "strict": 0, "blank": 0, "slowest_s": 0.0}
    for first in range(0, count, PACK):
        rows = np.array([draw.randrange(len(originals)) for _ in range(min(PACK, count - first))])
        mutants = []
        for row in rows.tolist():
            other = originals[draw.randrange(len(originals))].data
            data = draw.choice(MUTATIONS)(draw, originals[row].data, other)
            mutants.append(Original(data, originals[row].format))
        before, pack = time.perf_counter(), sizes.take(rows)
        decoded = decoder.decode(mutants, pack)
        found["slowest_s"] = max(found["slowest_s"], time.perf_counter() - before)
        for i, page in enumerate(decoded.pages):
            assert page.shape[:2] == (pack.height[i], pack.width[i])
        blank = sum(one.blank for one in decoded.late)
        found["blank"] += blank
        found["strict"] += len(decoded.late) - blank
        found["decoded"] += len(rows) - len(decoded.late)
    found |= {"pipelines": decoder.built, "seconds": time.perf_counter() - started}
    (bomb,) = decoder.decode([tile_bomb()], sizes.take(np.array([0]))).late
    assert bomb.blank
    assert bomb.error.count("in tiles of which a side is 32768") == 2  # refused by both, not out of memory
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
