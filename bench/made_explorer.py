"""Atlases made up to the contract of aqqua.explore.atlas.table, quickly and of any size.

For bench/explore_page.py and the tests of the explorer.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from aqqua.explore.atlas.table import COLUMNS, FOREIGN, NEIGHBOURS, RANKS, atlas_schema

SPECIES = (
    *("Calanoida", "Cyclopoida", "Chaetognatha", "Ostracoda", "Appendicularia", "Thaliacea", "Radiolaria"),
    *(
        "Foraminifera",
        "Diatoma",
        "Ciliophora",
        "Dinophyceae",
        "Cnidaria",
        "Ctenophora",
        "Polychaeta",
        "detritus",
    ),
    *("bubble", "fibre", "egg"),
)
INSTRUMENTS = ("ISIIS", "IFCB", "UVP6", "ZooScan")
NUMBERS = {"purity_label": 0.83, "purity_instrument": 0.91, "trustworthiness": 0.97, "continuity": 0.95}
HOSTILE = (
    *(
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '"><svg onload=alert(1)>',
        "javascript:alert(1)",
    ),
    *(
        "</script><script>alert(1)//",
        "<!--",
        "]]>",
        "&lt;b&gt;",
        "' OR 1=1 --",
        "\u202eevil\u202c",
        "العوالق",
        "../../etc",
    ),
)


def hostile_names(count: int) -> list[str]:
    """Distinct names that would do something if they were read as HTML, script, SQL or a path."""
    frames = (
        "{}",
        '">{}',
        "'>{}",
        "</title>{}",
        "</script>{}",
        "<!--{}",
        "{}\u2028",
        "\u202e{}",
        "&lt;{}",
        "${{{}}}",
    )
    bodies = (
        *(
            "<script>bad({n})</script>",
            "<img src=x onerror=bad({n})>",
            "<svg/onload=bad({n})>",
            "javascript:bad({n})",
        ),
        *(
            "<iframe srcdoc='<script>parent.bad({n})</script>'>",
            "<a href=javascript:bad({n})>x",
            "{{{{bad({n})}}}}",
        ),
        *(
            "<style>@import 'http://x.invalid/{n}'</style>",
            "'; DROP VIEW atlas; -- {n}",
            "../../../../etc/passwd{n}",
        ),
        *(
            "<input autofocus onfocus=bad({n})>",
            "\\u003cscript\\u003ebad({n})",
            "__proto__{n}",
            "=cmd|' /C calc'!A{n}",
        ),
    )
    return [frames[n % 10].format(bodies[n // 10 % len(bodies)].format(n=n)) for n in range(count)]


def drawing(kind: int, n: int) -> bytes:
    """A small animal on its background with a bar below."""
    width, height = 40 + 7 * (kind % 6), 30 + 9 * (kind % 4)
    picture = Image.new("L", (width, height + 14), 235)
    draw = ImageDraw.Draw(picture)
    dark = 40 + (37 * kind + 11 * n) % 90
    draw.ellipse(
        (6, 5, width - 8, height - 5), outline=dark, width=2 + kind % 3, fill=dark + 70 if kind % 2 else None
    )
    draw.line((width / 2, 2, width - 3, 3 + 5 * (kind % 5)), fill=dark, width=2)
    draw.rectangle((4, height + 3, 24, height + 5), fill=20)
    draw.text((27, height), "1", fill=20)
    file = io.BytesIO()
    picture.save(file, "PNG" if kind % 2 else "WEBP")
    return file.getvalue()


def made_table(rows: int, seed: int = 0, hostile: bool = False, ids: str = "img") -> pa.Table:
    """Columns of an atlas: a cloud for each species, nearest points along it."""
    rng = np.random.default_rng(seed)
    names = [*SPECIES, *HOSTILE] if hostile else list(SPECIES)
    weights = 1 / np.arange(1, len(names) + 1)
    kind = rng.choice(len(names), rows, p=weights / weights.sum())
    centre = rng.uniform(-0.75, 0.75, (len(names), 2))
    place = (centre[kind] + rng.normal(0, 0.05, (rows, 2)) * (1 + kind[:, None] % 3)).clip(-1, 1)
    instrument = (kind + rng.integers(0, 2, rows)) % len(INSTRUMENTS)
    pictures = [drawing(k, n) for k in range(len(names)) for n in range(2)]
    sizes = [Image.open(io.BytesIO(p)).size for p in pictures]
    picture = 2 * kind + rng.integers(0, 2, rows)
    around = (np.arange(rows)[:, None] + np.arange(1, NEIGHBOURS + 1)) % rows
    cosine = np.tile(np.linspace(0.99, 0.5, NEIGHBOURS), (rows, 1))
    known = rng.random(rows) > 0.1
    days = rng.integers(18000, 19000, rows)
    words = np.array(names, object)

    def maybe(values: np.ndarray, there: np.ndarray = known) -> pa.Array:
        return pa.array(values, mask=~there)

    made = {
        "image_id": [f"{ids}_{i:07d}" for i in range(rows)],
        "key": np.arange(rows, dtype=np.uint64) * np.uint64(7919) + np.uint64(1 << 60),
        "x": place[:, 0].astype(np.float32), "y": place[:, 1].astype(np.float32),
        "neighbours": listed(around, NEIGHBOURS, pa.uint32()),
        "neighbour_similarity": listed(cosine, NEIGHBOURS, pa.float16()),
        "foreign": listed((np.arange(rows)[:, None] + 101 + np.arange(FOREIGN)) % rows, FOREIGN, pa.uint32()),
        "cluster": np.where(known, kind, -1).astype(np.int32),
        "novelty": rng.random(rows).astype(np.float32),
        "label_issue": maybe(rng.random(rows).astype(np.float32)),
        "thumbnail": pa.array(pictures, pa.binary()).take(pa.array(picture)),
        "thumb_width": np.array(sizes)[picture, 0].astype(np.int16),
        "thumb_height": np.array(sizes)[picture, 1].astype(np.int16),
        "instrument": [INSTRUMENTS[i] for i in instrument],
        "sample": [f"cast {i % 40:02d}" for i in range(rows)],
        "group": [f"bin {i % 400:03d}" for i in range(rows)],
        "time": maybe((days * 86_400_000).astype("datetime64[ms]")),
        "lat": maybe(rng.normal(54, 4, rows)), "lon": maybe(rng.normal(-10, 14, rows)),
        "depth_m": maybe(rng.gamma(2, 60, rows).astype(np.float32)),
        "um_per_px": maybe(np.full(rows, 22.5, np.float32)), "label": maybe(words[kind]),
        "label_status": np.where(known, "validated", "unclassified"),
        "height": rng.integers(20, 300, rows).astype(np.int32),
        "width": rng.integers(20, 300, rows).astype(np.int32),
        "class": words[kind], "score": rng.random(rows).astype(np.float32),
        "esd_um": maybe(rng.gamma(3, 200, rows).astype(np.float32)), "area_um2": pa.nulls(rows),
        "volume_sphere_um3": pa.nulls(rows), "carbon_pg": maybe(rng.gamma(2, 1e4, rows).astype(np.float32)),
        **dict.fromkeys(RANKS, words[kind // 3 * 3]),
    }  # fmt: skip
    facts = {"numbers": NUMBERS, "k": 20, "seed": seed, "model": "a" * 64, "command": "aqqua explore build"}
    schema = atlas_schema(True, facts)
    assert {name for name, *_ in COLUMNS} <= set(made)
    arrays = [pa.array(made[field.name]).cast(field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def listed(values: np.ndarray, length: int, kind: pa.DataType) -> pa.Array:
    flat = values.ravel().astype(np.float16 if kind == pa.float16() else np.uint32)
    item = pa.field("item", kind, nullable=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, kind), type=pa.list_(item, length))


def made_atlas(path: Path, rows: int, **kwargs: object) -> Path:
    """The file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made_table(rows, **kwargs), path, row_group_size=2048)
    return path
