"""What views may look like: the config of crops, zoom, light and blur."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Range = tuple[float, float]


class ViewConfig(BaseModel):
    """Crops and their look. Defaults are the recommended values for plankton."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    locals: int = Field(default=8, ge=0, le=16, description="local views per image; globals are always 2")
    global_area: Range = Field(default=(0.32, 1.0), description="share of the image's area; DINOv2")
    local_area: Range = Field(default=(0.05, 0.32), description="share of the image's area; DINOv2")
    aspect: Range = Field(default=(3 / 4, 4 / 3), description="side ratio, beside the image's own; DINOv2")
    rotate: bool = Field(default=True, description="any angle and flips: plankton has no up")
    scale_jitter: Range = Field(default=(0.8, 1.25), description="resampling factor, log-uniform")
    min_tokens: tuple[int, int] = Field(
        default=(16, 4), description="floor, patches per global and local view"
    )
    max_tokens: tuple[int, int] = Field(default=(256, 64), description="cap, patches; DINOv2: 256, 49")
    max_magnify: float = Field(default=2.0, ge=1, description="no view is magnified more to reach the floor")
    max_reduce: float = Field(
        default=8.0, ge=1, description="no view is reduced more to keep the cap: it is cut"
    )
    gain: Range = Field(default=(0.6, 1.4), description="contrast about the background; DINOv2 jitter 0.4")
    offset: Range = Field(default=(-0.1, 0.1), description="added grey, full scale = 1")
    photometric_odds: float = Field(default=0.8, ge=0, le=1, description="views with gain and offset; DINOv2")
    invert_odds: Range = Field(
        default=(0.0, 0.2), description="polarity flipped, global 1 and 2 (solarize's place)"
    )
    blur: Literal["paper", "released"] = Field(
        default="paper",
        description="paper: global 1 always, 2 at 0.1; released weights: never and 0.9 (upstream RandomApply "
        "inverts its probability, dinov3 #286)",
    )
    blur_sigma_px: Range = Field(default=(0.1, 2.0), description="Gaussian σ in output px; DINOv2")
    local_blur_odds: float = Field(default=0.5, ge=0, le=1, description="DINOv2")
    noise: Range = Field(default=(0.0, 0.02), description="σ of additive noise, full scale = 1")
    hide_scale_odds: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="views whose µm/px is hidden from the model, so that it learns both",
    )
    subtract_background: bool = Field(
        default=True, description="0 is the image's own background: less instrument, padding for free"
    )
    mean: float = Field(default=0.5, description="grey taken as 0 when the background is kept")
    std: float = Field(default=0.25, gt=0, description="grey, full scale = 1, taken as 1")

    @model_validator(mode="after")
    def _ordered(self) -> "ViewConfig":
        for name in (
            "global_area",
            "local_area",
            "aspect",
            "scale_jitter",
            "gain",
            "offset",
            "blur_sigma_px",
            "noise",
        ):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be low, high with low <= high, got {low}, {high}; swap them")
        for name in ("global_area", "local_area", "aspect", "scale_jitter"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}; raise its low end")
        for name in ("gain", "blur_sigma_px", "noise", "invert_odds"):
            if min(getattr(self, name)) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}; raise its low end")
        if max(self.invert_odds) > 1:
            raise ValueError(f"invert_odds must be 0 to 1, got {self.invert_odds}; give shares of views")
        if any(f < 1 or f > c for f, c in zip(self.min_tokens, self.max_tokens, strict=True)):
            raise ValueError(
                f"min_tokens must be 1 to max_tokens, got {self.min_tokens} and {self.max_tokens}; "
                "lower the floor"
            )
        return self

    @property
    def views(self) -> int:
        """Views of one image: 2 global, then the local ones."""
        return 2 + self.locals
