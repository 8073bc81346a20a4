"""Every fact about an instrument has a source; what is unknown stays None."""

import pytest
from pydantic import ValidationError

from aqqua.instruments.name_patterns import PATTERNS
from aqqua.instruments.registry import Instrument, facts, registry

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
    assert facts("ZooScan").footer_px == 31


def test_an_unlisted_instrument_has_no_facts() -> None:
    assert facts("unknown") == facts("no such camera")
    assert facts("unknown").um_per_px is None


def test_patterns_name_registered_instruments_and_sources() -> None:
    for row in PATTERNS:
        assert row.instrument is None or row.instrument in registry()
        assert row.source


def test_impossible_or_unknown_facts_are_refused() -> None:
    for wrong in ({"um_per_px": 0}, {"um_per_px": 5000}, {"polarity": "dark"}, {"pixel": 3}):
        with pytest.raises(ValidationError):
            Instrument(source="test", **wrong)
