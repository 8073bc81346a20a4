"""How a backbone and a head are learnt from labelled images: the config of fine-tuning.

Defaults are for thousands to hundreds of thousands of labelled images; `frozen` is the quick first try.
Test: tests/evaluate/finetune/test_finetune_config.py.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from aqqua.evaluate.features import Pooling
from aqqua.plan.turned import Turn
from aqqua.train.optim import OptimConfig

Mode = Literal["frozen", "lora", "full"]
Balance = Literal["none", "weights", "sampler", "logit_adjustment"]


class LoraConfig(BaseModel):
    """Low-rank updates of the blocks' linear layers (Hu et al. 2021)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=8, ge=1, le=512, description="of each update (paper: 1 to 64, 4 or 8 suffice)")
    alpha: float = Field(default=16.0, gt=0, le=1024, description="an update is scaled by alpha / rank")
    layers: Literal["attention", "mlp", "all"] = Field(
        default="all", description="linear layers updated: qkv and proj, the feed-forward's, or both"
    )


class FinetuneOptim(BaseModel):
    """AdamW with a warm-up and a cosine to zero."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head_lr: float = Field(default=2e-3, gt=0, le=10, description="highest learning rate of the head")
    backbone_lr: float = Field(
        default=2e-4, gt=0, le=1, description="highest learning rate of the last block or of LoRA"
    )
    layer_decay: float = Field(
        default=0.75, gt=0, le=1, description="factor on the rate per block down (BEiT, MAE: 0.65 to 0.75)"
    )
    weight_decay: float = Field(default=0.05, ge=0, le=1, description="of all but bias and norm (MAE: 0.05)")
    warmup_share: float = Field(default=0.1, ge=0, le=1, description="share of the steps the rate rises over")
    clip_grad: float = Field(default=1.0, gt=0, description="largest gradient norm, head and backbone each")

    def groups(self) -> OptimConfig:
        """What aqqua.train.optim needs to give each parameter its group and rate."""
        return OptimConfig(
            lr=self.backbone_lr, lr_rule="none", layer_decay=self.layer_decay, patch_embed_lr=1.0,
            weight_decay_start=self.weight_decay, weight_decay_end=self.weight_decay, min_lr=0.0,
            warmup_share=self.warmup_share, freeze_last_layer_share=0.0, clip_grad=self.clip_grad,
        )  # fmt: skip


class FinetuneConfig(BaseModel):
    """One fine-tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field(
        default="frozen",
        description="frozen: features once, the head alone learns; lora: low-rank updates of the blocks; "
        "full: every weight",
    )
    pooling: Pooling = Field(default="cls+mean", description="what the head sees of an image")
    epochs: int = Field(default=30, ge=1, le=10_000, description="passes over the training images, at most")
    patience_epochs: int = Field(
        default=6, ge=1, description="epochs without a better validation score before it stops"
    )
    batch_images: int = Field(default=128, ge=1, le=65_536, description="images of an optimizer step")
    pack_tokens: int = Field(
        default=16_384, ge=1, le=1 << 22, description="tokens that go through the backbone at a time"
    )
    window_blocks: int = Field(
        default=8, ge=1, le=1024, description="blocks of 512 images held in memory and mixed"
    )
    validation_share: float = Field(
        default=0.15, gt=0, lt=1, description="share of the images set apart, whole groups, to stop by"
    )
    balance: Balance = Field(
        default="none",
        description="of classes: as they are; inverse-frequency loss weights; rare images shown more often; "
        "or logits adjusted by the class prior (Menon et al. 2020)",
    )
    adjustment_tau: float = Field(
        default=1.0, gt=0, le=10, description="strength of logit_adjustment (Menon: 1)"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread evenly")
    turn: Turn = Field(
        default="quarter",
        description="images shown turned in training: none, quarter (exact) or any angle (more tokens)",
    )
    flip: bool = Field(default=True, description="half of the images mirrored in training")
    lora: LoraConfig = LoraConfig()
    optim: FinetuneOptim = FinetuneOptim()
    seed: int = Field(default=0, ge=0, lt=1 << 63, description="of order, turns and LoRA's start")
