"""What billions of images cost by model size, natively and at DINOv2's fixed 224/98, by aqqua.cost.

    python bench/gpuhours.py                               the made-up law of sizes, patch 14
    python bench/gpuhours.py --tokens isiis --patch-px 8   sizes that were measured

2 global and 8 local views, one head for DINO and iBOT, no drop-path. GPU-hours at the stated MFU count
useful operations alone; those that are predicted are of one GPU, by PyTorch and by our kernels, from
aqqua/cost/facts.yaml, which says what of it is a guess. Of a run of yours: aqqua plan CONFIG.
Test: tests/test_bench_gpuhours.py.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aqqua.cost.activations import Saving
from aqqua.cost.estimate import as_dinov2, gpu_hours_at, predict, workload
from aqqua.cost.facts import Facts, load_facts
from aqqua.cost.sizes import stated_tokens
from aqqua.cost.step import TERA
from aqqua.cost.work import Workload
from aqqua.train.settings import PretrainConfig

PROTOTYPES = {"small": 65_536, "base": 65_536, "large": 131_072, "giant": 131_072}  # DINOv2
PACK_TOKENS = 65_536
GPUS = ("H100", "A100-40")
HEAD = ("", "TFLOP/image fixed", "native", "times fewer", *(f"{gpu} h fixed" for gpu in GPUS),
        *(f"{gpu} h native" for gpu in GPUS), "H100 h native by PyTorch", "by our kernels")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=float, default=3e9)
    parser.add_argument("--mfu", type=float, default=0.5, help="share of the peak that is stated")
    parser.add_argument("--tokens", default="law", help="law, isiis, or patches of a global and a local view")
    parser.add_argument("--patch-px", type=int, default=14)
    parser.add_argument("--registers", type=int, default=0)
    options = parser.parse_args(arguments)
    facts = load_facts()
    works = {size: work_of(size, options.tokens, options.patch_px, options.registers) for size in PROTOTYPES}
    tokens = works["small"][0].tokens
    print(f"{options.images:.3g} images, MFU {options.mfu:g}; {tokens.known}: {tokens.source}")
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for size, (native, fixed) in works.items():
        cells = row(native, fixed, facts, options.images, options.mfu)
        print(f"| {size} (K {PROTOTYPES[size]:,}) | " + " | ".join(cells) + " |")


def work_of(size: str, tokens: str, patch_px: int, registers: int) -> tuple[Workload, Workload]:
    """A step of a model natively, and at 224/98."""
    model = {"size": size, "patch_px": patch_px, "registers": registers, "scale_token": False, "drop_path": 0}
    config = PretrainConfig.model_validate(
        {
            "run": "none",
            "data": {"path": "none", "pack_tokens": PACK_TOKENS},
            "model": model,
            "objective": {"head": {"prototypes": PROTOTYPES[size]}},
            "train": {"images": 1},
        }
    )
    native = workload(config, stated_tokens(tokens, config))
    return native, as_dinov2(config, native)


def row(native: Workload, fixed: Workload, facts: Facts, images: float, mfu: float) -> Iterator[str]:
    """Cells of a model."""
    flops = {"fixed": fixed.flops.total, "native": native.flops.total}
    yield f"{flops['fixed'] / TERA:.3f}"
    yield f"{flops['native'] / TERA:.3f}"
    yield f"{flops['fixed'] / flops['native']:.1f}"
    for operations in flops.values():
        for gpu in GPUS:
            yield f"{gpu_hours_at(operations, images, facts.gpu(gpu).peak_tflop_s.value, mfu):,.0f}"
    ours = replace(native, saving=Saving(True, losses="triton"), fused_attention=True, fused_optimizer=True)
    for work in (native, ours):
        yield f"{predict(work, facts, 'H100', 1, 1, images_total=images).gpu_hours:,.0f}"


if __name__ == "__main__":
    main()
