"""The columns of a dataset: one row per image, self-describing and readable by any Parquet tool.

`COLUMNS` and `ENCODED_COLUMNS` are the one place where a column's type and meaning are written down; the
Arrow schemas, the field descriptions inside every Parquet file and docs/dataset.md (tested) all come from
them.
"""

import pyarrow as pa

PIXELS_VERSION = 1  # every row has its pixels
ENCODED_VERSION = 2  # rows may hold the original file instead; all else is the same
FORMAT = "aqqua dataset"
MANIFEST = "dataset.json"
QUARANTINE = "quarantine.parquet"
SAMPLES = "samples.parquet"
DUPLICATES = "duplicates.parquet"
TRUSTED = ("validated", "folder")  # label statuses that count as truth
BLOCK_ROWS = 512  # images in a row group
BLOCKS_PER_PART = 128  # 65,536 images: 0.1 to 1 GB a file, 46,000 files for 3·10⁹ images

_WORD = pa.dictionary(pa.int32(), pa.string())  # few distinct values: instrument, sample, group
_Column = tuple[str, pa.DataType, bool, str]

# name, type, may be null (unknown), meaning with unit and range
COLUMNS: tuple[_Column, ...] = (
    ("image_id", pa.string(), False, "'<input label>/<object id>', unique in the dataset"),
    (
        "key",
        pa.uint64(),
        False,
        "blake2b-64 of image_id, little endian: names the image in every random draw",
    ),
    ("content", pa.binary(16), False, "blake2b-128 of height, width, channels, bits and pixels"),
    ("height", pa.int32(), False, "rows in pixels, at least 1"),
    ("width", pa.int32(), False, "columns in pixels, at least 1"),
    ("channels", pa.int8(), False, "1 grey or 3 red, green, blue"),
    ("bits", pa.int8(), False, "8 (uint8) or 16 (uint16) per channel"),
    ("um_per_px", pa.float32(), True, "micrometres per pixel, 0.01 to 1000; null is unknown"),
    (
        "background",
        pa.list_(pa.field("item", pa.uint16(), nullable=False), 3),
        False,
        "lower median of the outermost border pixels per channel, grey repeated",
    ),
    ("box_top", pa.int32(), False, "first row of the organism; whole image when nothing stands out"),
    ("box_left", pa.int32(), False, "first column of the organism"),
    ("box_bottom", pa.int32(), False, "row after the last of the organism"),
    ("box_right", pa.int32(), False, "column after the last of the organism"),
    ("instrument", _WORD, False, "imager, as in the instrument registry; 'unknown' if it is"),
    ("sample", _WORD, False, "what was sampled: net tow, bin, profile; '' is unknown"),
    ("group", _WORD, False, "must not be split between train and test: bin, frame, cast; '' is unknown"),
    ("time", pa.timestamp("ms", tz="UTC"), True, "when the image was taken"),
    ("lat", pa.float64(), True, "degrees north, -90 to 90"),
    ("lon", pa.float64(), True, "degrees east, -180 to 180"),
    ("depth_m", pa.float32(), True, "metres below the surface, positive down"),
    ("volume_l", pa.float32(), True, "water volume of the whole sample in litres, above 0"),
    ("label", pa.string(), True, "class as written at the source"),
    ("label_status", pa.string(), False, "validated, predicted, dubious, discarded, folder or unlabelled"),
    ("aphia_id", pa.int32(), True, "WoRMS AphiaID of the label, above 0"),
    ("licence", pa.string(), True, "licence of the image"),
    ("source", pa.string(), False, "file of the input, with '#row' where one file holds many images"),
    ("pixels", pa.large_binary(), False, "rows from the top, channels interleaved, uint16 little endian"),
)
# Of datasets that keep original files, after those above; there, either `pixels` or these two are null.
ENCODED_COLUMNS: tuple[_Column, ...] = (
    ("encoded", pa.large_binary(), True, "original image file; decoded, it is the image of the row"),
    ("format", pa.string(), True, "what `encoded` is: JPEG, PNG or TIFF"),
)

WORDS = tuple(name for name, kind, _, _ in COLUMNS if kind == _WORD)
IMAGE_COLUMNS = ("pixels", "encoded", "format")  # that hold the image itself
SIZE_COLUMNS = (
    *("key", "height", "width", "channels", "bits", "um_per_px", "background"),
    *("box_top", "box_left", "box_bottom", "box_right", "instrument"),
)


def _schema(version: int, columns: tuple[_Column, ...]) -> pa.Schema:
    fields = [pa.field(name, kind, nullable, {"description": text}) for name, kind, nullable, text in columns]
    return pa.schema(fields, metadata={"aqqua.schema_version": str(version)})


def _with_originals() -> tuple[_Column, ...]:
    *others, (name, kind, _, text) = COLUMNS
    return (*others, (name, kind, True, f"{text}; null where `encoded` is the image"), *ENCODED_COLUMNS)


SCHEMA = _schema(PIXELS_VERSION, COLUMNS)
ENCODED_SCHEMA = _schema(ENCODED_VERSION, _with_originals())
SCHEMAS = {PIXELS_VERSION: SCHEMA, ENCODED_VERSION: ENCODED_SCHEMA}

QUARANTINE_SCHEMA = pa.schema(
    [("input", pa.string()), ("source", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)
SAMPLES_SCHEMA = pa.schema(
    [
        ("input", pa.string()),
        ("sample", pa.string()),
        ("instrument", pa.string()),
        ("images", pa.int64()),
        ("triggers", pa.int64()),
        ("volume_l", pa.float64()),
        ("time", pa.timestamp("ms", tz="UTC")),
        ("lat", pa.float64()),
        ("lon", pa.float64()),
        ("source", pa.string()),
        ("facts", pa.map_(pa.string(), pa.string())),
    ]
)
DUPLICATES_SCHEMA = pa.schema(
    [
        ("content", pa.binary(16)),
        ("image_id", pa.string()),
        ("label", pa.string()),
        ("images", pa.int64()),  # of the same content
        ("two_labels", pa.bool_()),  # the same picture under more than one label: none can be trusted
    ]
)
