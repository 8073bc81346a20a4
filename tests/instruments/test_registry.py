"""Every fact about an instrument has a source; what is unknown stays None."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from aqqua.instruments import detect, ecotaxa_cells, flowcam, ifcb, uvp6, zooscan
from aqqua.instruments.footer import FOOTER_PX
from aqqua.instruments.name_patterns import PATTERNS
from aqqua.instruments.record import ReadOptions, Record
from aqqua.instruments.registry import Instrument, facts, registry
from aqqua.instruments.tree import open_tree

NEEDED = (
    *("CPICS", "DSPC", "FlowCam", "IFCB", "ISIIS", "LOKI", "PWSSC", "PlanktonImager", "PlanktoScope"),
    *("Planktivore", "SPC", "UVP5", "UVP5hd", "UVP5sd", "UVP6", "VPR", "ZooCAM", "ZooScan"),
)


@pytest.mark.parametrize("name", NEEDED)
def test_every_instrument_is_there_with_a_source(name: str) -> None:
    instrument = registry()[name]
    assert len(instrument.source) > 20
    for fact in ("um_per_px", "polarity"):  # a missing one is spoken of
        said = "µm/px" if fact == "um_per_px" else fact
        if getattr(instrument, fact) is None:
            assert "unknown" in instrument.source, f"{name}: say why {fact} is unknown"
        elif fact == "um_per_px":
            assert f"{said}:" in instrument.source, f"{name}: {said} needs its source"


@pytest.mark.parametrize(
    "name", ["PWSSC", "SPC", "ISIIS", "VPR", "CPICS", "UVP5", "UVP5sd", "FlowCam", "DSPC"]
)
def test_scales_without_a_solid_source_stay_unknown(name: str) -> None:
    assert facts(name).um_per_px is None


def test_known_scales() -> None:
    scales = {"IFCB": 1 / 3.4, "UVP6": 73, "UVP5hd": 88, "ZooScan": 10.6, "PlanktoScope": 0.75, "LOKI": 23}
    assert {name: facts(name).um_per_px for name in scales} == pytest.approx(scales)


def test_footers_stand_in_one_place() -> None:
    with_footer = {name for name, known in registry().items() if known.footer_px}
    assert with_footer == {"ZooScan", "UVP5", "UVP5sd", "UVP5hd", "UVP6"}
    assert {registry()[name].footer_px for name in with_footer} == {FOOTER_PX}
    assert all("footer:" in registry()[name].source for name in with_footer)


def test_an_unlisted_instrument_has_no_facts() -> None:
    assert facts("unknown") == facts("no such camera")
    assert facts("unknown").um_per_px is None


def test_patterns_name_registered_instruments_and_sources() -> None:
    for row in PATTERNS:
        assert row.instrument is None or row.instrument in registry()
        assert row.source


def test_readers_name_registered_instruments_in_the_same_spelling() -> None:
    told = {name for _, name in ecotaxa_cells._INSTRUMENTS}
    told |= {flowcam.NAME, uvp6.NAME, zooscan.NAME, zooscan.ZOOIMAGE, ifcb.INSTRUMENT}
    assert told <= set(registry())


# Ranges of the median grey of a border; "mid" is neither paper nor dark field.
BORDER_GREY = {"dark_on_bright": (250, 255), "mid_grey": (100, 245), "bright_on_dark": (0, 30)}
REAL_SETS = {
    "UVP6": "uvp6/uvpec.zip",
    "ISIIS": "isiis-ndsb.zip",
    "PWSSC": "pwssc.zip",
    "FlowCam": "flowcam-vickot.zip",
    "ZooScan": "zooscan/ecotaxa_ml_template/images.zip",
    "PlanktonImager": "planktonimager",
    "IFCB": "ifcb/pyifcb-testdata",
}


@pytest.mark.parametrize("name", sorted(REAL_SETS))
def test_polarity_and_channels_are_those_of_real_pictures(real_data: Path, name: str) -> None:
    tree = open_tree(real_data / REAL_SETS[name])
    found = detect.find(tree, ReadOptions(instrument=name))
    records = (item for item in found if isinstance(item, Record))
    borders, channels = [], set()
    for record in islice(records, 0, 400, 10):
        pixels = record.pixels.load(tree)
        channels.add(3 if pixels.ndim == 3 else 1)
        edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
        borders.append(np.median(np.concatenate([edge.ravel() for edge in edges])))
    assert borders
    known = facts(name)
    assert known.channels in channels
    assert known.polarity is not None
    low, high = BORDER_GREY[known.polarity]
    assert low <= np.median(borders) <= high


def test_impossible_or_unknown_facts_are_refused() -> None:
    for wrong in ({"um_per_px": 0}, {"um_per_px": 5000}, {"polarity": "dark"}, {"pixel": 3}):
        with pytest.raises(ValidationError):
            Instrument(source="test", **wrong)
