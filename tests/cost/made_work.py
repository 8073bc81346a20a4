"""A workload and a GPU for the tests of costs, with round numbers."""

from dataclasses import replace
from typing import Any

from aqqua.cost.activations import Saving
from aqqua.cost.facts import Fact, Facts, load_facts
from aqqua.cost.sizes import NAMED
from aqqua.cost.tokens import Tokens
from aqqua.cost.work import Workload
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig


def made_tokens(prefix: int = 5, locals_: int = 8) -> Tokens:
    """Those of ISIIS at patch 8."""
    roles = [of.role(n, prefix) for of, n in zip(NAMED["isiis"].by_patch_px[8], (2, locals_), strict=True)]
    return Tokens(roles[0], roles[1], 16.0, 1.0, "measured", "ISIIS")


def made_work(saving: Saving = Saving(fused=False), lanes: int = 64, **model: Any) -> Workload:  # noqa: B008
    """A step of ViT-S, or of another model."""
    config = ModelConfig.model_validate({"size": "small", "patch_px": 8, "drop_path": 0, **model})
    return Workload(config, ObjectiveConfig(), made_tokens(config.prefix), 32_768, lanes, saving)


def fused(work: Workload) -> Workload:
    """The same by our kernels."""
    saving = replace(work.saving, fused=True, losses="triton")
    return replace(work, saving=saving, fused_attention=True, fused_optimizer=True)


def with_facts(group: str, **values: float) -> Facts:
    """The facts, some of them changed."""
    facts = load_facts()
    changed = {name: Fact(value=value, known="assumed", source="of a test") for name, value in values.items()}
    return facts.model_copy(update={group: {**getattr(facts, group), **changed}})
