"""The settings of ZeRO, and the one function that makes DeepSpeed's dict of them.

Test: tests/train/test_zero.py.
"""

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field


class ZeroConfig(BaseModel):
    """What DeepSpeed is told. Names and sizes are DeepSpeed's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal[1, 2, 3] = Field(
        default=1, description="cuts up moments (1), gradients too (2), weights and teacher too (3)"
    )
    offload: bool = Field(
        default=False, description="keep moments and float32 shards in host memory and step there"
    )
    reduce_bucket_size: int = Field(
        default=500_000_000, ge=1, description="gradient values reduced at a time (DeepSpeed: 5e8)"
    )
    allgather_bucket_size: int = Field(
        default=500_000_000, ge=1, description="weights gathered at a time in stages 1 and 2 (DeepSpeed: 5e8)"
    )
    prefetch_bucket_size: int = Field(
        default=50_000_000, ge=0, description="weights gathered ahead in stage 3 (DeepSpeed: 5e7)"
    )
    whole_below: int = Field(
        default=100_000,
        ge=0,
        description="values of a weight under which stage 3 keeps it whole (DeepSpeed's "
        "stage3_param_persistence_threshold: 1e5); must hold norms and gains, which are a width long",
    )
    overlap: bool = Field(
        default=False, description="reduce gradients beside the backward pass (overlap_comm)"
    )


def deepspeed_config(config: ZeroConfig, lanes_per_rank: int, ranks: int, half: bool) -> dict[str, Any]:
    """The dict for deepspeed.initialize; the only place where one is made.

    Args:
        config: of the run.
        lanes_per_rank: packs between two steps.
        ranks: of the run.
        half: products in bfloat16; weights, gradients and their sums are float32 either way.
    """
    zero: dict[str, Any] = {
        "stage": config.stage,
        "reduce_bucket_size": config.reduce_bucket_size,
        "allgather_bucket_size": config.allgather_bucket_size,
        "overlap_comm": config.overlap,
    }
    if config.stage == 3:
        zero["stage3_prefetch_bucket_size"] = config.prefetch_bucket_size
        zero["stage3_param_persistence_threshold"] = config.whole_below
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,  # packs; DeepSpeed wants the three numbers to agree
        "gradient_accumulation_steps": lanes_per_rank,
        "train_batch_size": lanes_per_rank * ranks,
        "gradient_clipping": 0.0,  # ours is per sub-module
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": zero,
        # No module is named whose weights or gradients may travel in half precision.
        "torch_autocast": {"enabled": half, "dtype": "bfloat16", "lower_precision_safe_modules": []},
        "steps_per_print": 1 << 60,
        "wall_clock_breakdown": False,
    }
