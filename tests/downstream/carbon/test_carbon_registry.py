"""relations.yaml is read strictly: keys, ids, units, choices; and every check value of it comes out."""

import sys

import numpy as np
import pytest
import yaml

from aqqua.downstream.carbon.registry import FILE, load_registry
from aqqua.downstream.carbon.relation import Relation

# id, x, unit, y, unit: worked out from the formulas as published.
CHECKS = [
    ("protist", 1000, "um**3", 141.906, "pg"),
    ("protist", 3000, "um**3", 398.123, "pg"),
    ("diatom", 3000, "um**3", 190.084, "pg"),
    ("diatom_large", 3000, "um**3", 135.003, "pg"),
    ("diatom_large", 5000, "um**3", 211.735, "pg"),
    ("dinoflagellate", 1000, "um**3", 217.678, "pg"),
    ("ciliate", 1000, "um**3", 144.352, "pg"),
    ("other_phytoplankton", 1000, "um**3", 78.053, "pg"),
    ("cyanobacteria", 7, "dimensionless", 1.4, "pg"),
    ("calanoid_dry_weight", 1, "mm**2", 45.25, "ug"),
    ("calanoid_dry_weight", 2, "mm**2", 136.225, "ug"),
    ("marine_snow", 1, "mm**3", 0.99, "ug"),
    ("marine_snow", 10, "mm**3", 3.27820, "ug"),
    ("sinking_dense", 0.1, "cm", 15.832, "m/day"),
    ("sinking_porous", 0.1, "cm", 31.665, "m/day"),
    ("flux_guidi", 1, "mm", 12.5, "mg*L/m**2/day"),
    ("flux_guidi", 0.5, "mm", 0.89122, "mg*L/m**2/day"),
]


@pytest.mark.parametrize(("name", "x", "unit", "y", "output"), CHECKS)
def test_the_check_values(name, x, unit, y, output):
    relation = Relation(load_registry().entry(name, allow_unverified=True))
    got = relation.evaluate(np.array([float(x)]), unit, output)[0]
    assert got == pytest.approx(y, rel=2e-5)


def test_every_relation_says_where_it_is_from():
    for entry in load_registry().relations:
        assert entry.citation
        assert entry.provenance in ("source-read", "published", "derived", "unverified")
        assert "dry" not in entry.id or entry.output.quantity == "dry_weight", "never call it carbon"


def test_what_is_not_verified_must_be_asked_for():
    registry = load_registry()
    with pytest.raises(ValueError, match=r"must be verified, got flux_guidi .* check it in the paper"):
        registry.entry("flux_guidi")
    assert registry.entry("flux_guidi", allow_unverified=True).a == 12.5
    with pytest.raises(ValueError, match=r"must be one of protist, .* got 'allometry'"):
        registry.entry("allometry")


def changed(path, change):
    values = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    change(values)
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda v: v["relations"][0]["input"].update(unit="mm**2"),
            "volume, the input of protist, must be in",
        ),
        (
            lambda v: v["relations"][0]["output"].update(unit="m/day"),
            "carbon, the output of protist, must be in",
        ),
        (lambda v: v["relations"][0]["output"].update(unit="pgC"), "got 'pgC'; correct the unit"),
        (lambda v: v["relations"][1].update(id="protist"), "got protist twice"),
        (lambda v: v["relations"][0].update(exponent=1), "relations.0.exponent: Extra inputs"),
        (lambda v: v["relations"][0].update(a=float("nan")), "relations.0.a"),
        (lambda v: v["relations"][3].update(a=-0.76), "a must be above 0"),
        (lambda v: v["relations"][0].update(doi="10.x"), "relations.0.doi"),
        (lambda v: v["relations"][0].update(provenance="heard of"), "relations.0.provenance"),
        (lambda v: v["choices"]["living"][0].update(relation="diatoms"), "got diatoms; correct the choice"),
        (lambda v: v["choices"]["living"][6].pop("by"), "calanoid_dry_weight must become carbon"),
        (lambda v: v["choices"]["living"][6].update(by="half"), "must name a conversion, got half"),
        (lambda v: v.pop("choices"), "got at choices: Field required"),
    ],
)
def test_refuses_a_wrong_file(tmp_path, change, match):
    with pytest.raises(ValueError, match=match):
        load_registry(changed(tmp_path / "r.yaml", change))


def test_refuses_what_is_no_yaml(tmp_path):
    (tmp_path / "r.yaml").write_text("relations: [")
    with pytest.raises(ValueError, match="must be readable YAML"):
        load_registry(tmp_path / "r.yaml")


def test_tells_of_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pint", None)
    with pytest.raises(RuntimeError, match=r"needs the package pint, got none; pip install"):
        load_registry.__wrapped__(FILE)
