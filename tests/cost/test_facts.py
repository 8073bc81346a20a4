import json

import pytest
import yaml

from aqqua.config import ConfigError
from aqqua.cost.facts import Fact, Facts, load_facts


def test_every_fact_has_a_source_and_says_how_it_is_known():
    facts = load_facts()
    assert set(facts.gpus) == {"A100-40", "H100", "H200"}
    groups = [facts.shares, facts.times, facts.counts, *(vars(gpu) for gpu in facts.gpus.values())]
    every = [fact for group in groups for fact in group.values() if isinstance(fact, Fact)]
    assert len(every) > 30
    assert all(len(fact.source) > 10 for fact in every)
    assert all(share.value <= 1 for share in facts.shares.values())


def test_guesses_are_listed():
    facts = load_facts()
    assert "shares.products 0.85" in facts.assumed_of_all()
    assert "product_tflop_s 790" in facts.assumed_of_gpu("H100")
    assert not any("peak" in line for line in facts.assumed_of_gpu("H200")), "the maker says it"


def environment(device: str, date: str, tflop_s: float) -> str:
    row = {"kind": "environment", "device": device, "date": date, "commit": "c" * 40, "copy_gb_s": 4000.0}
    return json.dumps({**row, "bf16_tflop_s": tflop_s}) + "\n"


def test_measured_ceilings_take_their_place(tmp_path):
    for folder, device, date, tflop_s in (
        ("nvidia-h200", "NVIDIA H200", "2026-12-02", 800.0),
        ("nvidia-h200", "NVIDIA H200", "2026-12-01", 700.0),
        ("a100", "NVIDIA A100-SXM4-80GB", "2026-12-03", 260.0),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        text = environment(device, date, tflop_s) + json.dumps({"kind": "case"}) + "\n"
        (tmp_path / folder / f"{date}.jsonl").write_text(text)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "plan.jsonl").write_text('{"command": "plan.py"}\n')
    (tmp_path / "cpu" / "empty.jsonl").write_text("")
    facts, written = load_facts(tmp_path), load_facts(tmp_path / "none")
    h200 = facts.gpu("H200")
    assert (h200.product_tflop_s.value, h200.copy_gb_s.value) == (800.0, 4000.0)  # the newest
    assert h200.product_tflop_s.known == "measured"
    assert "2026-12-02" in h200.product_tflop_s.source
    assert h200.peak_tflop_s == written.gpu("H200").peak_tflop_s
    assert facts.gpu("A100-40") == written.gpu("A100-40")  # another card than that of 80 GB
    assert facts.gpu("H100") == written.gpu("H100")


def test_an_unknown_gpu_is_named():
    with pytest.raises(
        ValueError, match=r"one of A100-40, H100, H200, got B200; add it to aqqua/cost/facts.yaml"
    ):
        load_facts().gpu("B200")


@pytest.mark.parametrize("row", [[0, "measured", "x"], [1, "guessed", "x"], [1, "assumed"]])
def test_a_fact_must_be_one(row):
    with pytest.raises(ValueError, match="validation error"):
        Fact.model_validate(row)


def test_an_unknown_field_fails(tmp_path):
    from aqqua.config import load_config

    path = tmp_path / "facts.yaml"
    path.write_text(yaml.safe_dump({"gpus": {}, "shares": {}, "times": {}, "counts": {}, "speeds": {}}))
    with pytest.raises(ConfigError, match="speeds"):
        load_config(Facts, path)
