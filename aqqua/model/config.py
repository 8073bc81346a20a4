"""What a backbone is made of: one configuration, its named sizes and the checks between fields."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Position = Literal["learned", "factorised", "gsd", "rope", "rope_physical", "none"]

# Widths of the DINOv2 and DINOv3 families (dinov2/models/vision_transformer.py: vit_small ... vit_giant2).
# tiny is ours: the same head width of 64, a quarter of small's parameters and half its layers again, so
# that a laptop CPU takes a training step in well under a second.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "layers": 6, "heads": 3, "ffn": "mlp"},
    "small": {"width": 384, "layers": 12, "heads": 6, "ffn": "mlp"},
    "base": {"width": 768, "layers": 12, "heads": 12, "ffn": "mlp"},
    "large": {"width": 1024, "layers": 24, "heads": 16, "ffn": "mlp"},
    "giant": {"width": 1536, "layers": 40, "heads": 24, "ffn": "swiglu"},
}


class ModelConfig(BaseModel):
    """A vision transformer on packed views. `size` fills width, layers, heads and ffn where not given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Literal["tiny", "small", "base", "large", "giant"] = Field(
        default="small", description="named size; explicit width, layers, heads, ffn win over it"
    )
    width: int = Field(default=384, ge=8, description="token width D")
    layers: int = Field(default=12, ge=1, description="transformer blocks L")
    heads: int = Field(default=6, ge=1, description="attention heads H; width/heads is the head width E")
    ffn: Literal["mlp", "swiglu"] = Field(
        default="mlp", description="feed-forward: GELU MLP of 4·D, or SwiGLU of 2/3 of that (DINOv2 giant)"
    )
    patch_px: int = Field(
        default=14,
        ge=1,
        le=64,
        description="patch side in pixels; 8, 14 and 16 are usual: half of all ISIIS images have under 16 "
        "patches of 14 px, so small organisms want 8. With views.patch_choices the side that the weight is "
        "stored for",
    )
    channels: Literal[1, 3] = Field(default=1, description="1 grey (nearly all plankton imagers), 3 colour")
    grey_embedding: bool = Field(
        default=False,
        description="grey images have a patch embedding of their own beside that of colour images, chosen by "
        "each image's channels; needs channels 3. False: grey is repeated thrice",
    )
    registers: int = Field(default=4, ge=0, le=64, description="register tokens per view (DINOv2 reg: 4)")
    layer_scale: float = Field(
        default=1e-5, gt=0, le=1, description="initial gain of each residual branch (DINOv2: 1e-5)"
    )
    drop_path: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="stochastic depth: share of views that skip a residual branch, the same in all layers "
        "(DINOv2: 0.3 small to large, 0.4 long runs; 0.1 advised for little data)",
    )
    position: Position = Field(
        default="rope",
        description="where a patch lies: learned grid (DINOv2), factorised fractional (NaViT), gsd "
        "sine-cosine (Scale-MAE), rope on normalised coordinates (DINOv3), rope_physical on µm, none",
    )
    position_grid: int = Field(
        default=16, ge=2, le=256, description="side M of the learned table (16 = 224/14, DINOv2 release 37)"
    )
    position_interpolation: Literal["size", "offset"] = Field(
        default="size",
        description="learned table to other grids: 'size' with antialias (DINOv2 with registers), or "
        "'offset', scale (n + 0.1)/M without antialias (first DINOv2 release)",
    )
    gsd_reference_um_per_px: float = Field(
        default=1.0, gt=0, description="µm/px at which the gsd code is that of plain MAE"
    )
    rope_base: float = Field(default=100.0, gt=1, description="longest over shortest period (DINOv3: 100)")
    rope_normalise: Literal["separate", "min", "max"] = Field(
        default="separate", description="sides that coordinates are divided by (DINOv3: separate)"
    )
    rope_shortest_um: float = Field(default=2.0, gt=0, description="shortest wavelength of rope_physical, µm")
    rope_longest_um: float = Field(default=2e4, gt=0, description="longest wavelength of rope_physical, µm")
    scale_token: bool = Field(
        default=True, description="tell each view's CLS its µm/px (or that it is unknown)"
    )
    attention: Literal["auto", "triton", "flash4", "flash2", "torch_varlen", "grouped", "reference"] = Field(
        default="auto", description="attention backend; forcing one that cannot serve is an error"
    )
    kernels: Literal["auto", "triton", "reference"] = Field(
        default="auto",
        description="what runs the rest of the backbone: our fused kernels (triton) or PyTorch (reference); "
        "auto: triton on CUDA where it was measured to be faster. The weights are the same",
    )
    activation_checkpointing: bool = Field(
        default=False, description="recompute each block in backward: about a third more time, less memory"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_size(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("size", "small") in SIZES:
            return {**SIZES[fields.get("size", "small")], **fields}
        return fields

    @model_validator(mode="after")
    def _check_fit(self) -> "ModelConfig":
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, got {self.width} and {self.heads}; "
                "width = 64·heads is usual"
            )
        needs = {"rope": (self.head_width, 4), "rope_physical": (self.head_width, 8), "gsd": (self.width, 4)}
        have, divisor = needs.get(self.position, (0, 1))
        if have % divisor:
            name = "width" if self.position == "gsd" else "head width"
            raise ValueError(
                f"position {self.position} needs a {name} divisible by {divisor}, got {have}; change it"
            )
        if self.grey_embedding and self.channels != 3:
            raise ValueError(
                f"grey_embedding needs channels 3, got {self.channels}; a model of one channel is grey anyway"
            )
        if self.rope_longest_um <= self.rope_shortest_um:
            raise ValueError(
                f"rope_longest_um must exceed rope_shortest_um, got {self.rope_longest_um} and "
                f"{self.rope_shortest_um}; swap them"
            )
        return self

    def for_any_machine(self) -> "ModelConfig":
        """The same model, served by what the machine at hand has: no implementation is forced."""
        return self.model_copy(update={"attention": "auto", "kernels": "auto"})

    @property
    def head_width(self) -> int:
        """E."""
        return self.width // self.heads

    @property
    def prefix(self) -> int:
        """Tokens before the patches of each view: CLS and registers."""
        return 1 + self.registers

    @property
    def patch_values(self) -> int:
        """F: values of one patch row, (row, column, channel) in C order."""
        return self.patch_px**2 * self.channels

    @property
    def ffn_width(self) -> int:
        """Hidden width of the feed-forward: 4·D, for SwiGLU 2/3 of it rounded up to a multiple of 8."""
        return (int(4 * self.width * 2 / 3) + 7) // 8 * 8 if self.ffn == "swiglu" else 4 * self.width
