"""What views may look like: the config of crops, zoom, light, colour and blur.

Why each is so, with pictures: docs/augmentation.md. Test: tests/plan/test_view_config.py.
"""

import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int32
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aqqua.plan.augmentation import AUGMENTATIONS, AugmentationName
from aqqua.plan.footprint import LARGEST_SIGMA, footprint_sigma

Range = tuple[float, float]
# Every number stays between these, so that no step of a plan over- or underflows; csrc/plan.cpp relies on it.
SMALLEST, LARGEST = 1e-6, 1e6
MOST_TOKENS = 1 << 22  # of a view: the largest pack, LaneConfig.pack_tokens
MOST_SPECKS = 8  # of a view
MOST_DROPPED = 0.75  # of a view's patches: one of four, the fewest that are ever masked, stays
MOST_PATCH_PX = 64  # as model.patch_px
# Fields that are a range: which of them must not be below 0, or must be positive; shares are 0 to 1.
_RANGES = (
    "global_area", "local_area", "aspect", "scale_jitter", "gain", "offset", "saturation", "hue",
    "blur_sigma_px", "noise", "speck_radius", "speck_depth",
)  # fmt: skip
_POSITIVE = ("global_area", "local_area", "aspect", "scale_jitter")
_NOT_NEGATIVE = ("gain", "saturation", "blur_sigma_px", "noise")
_SHARES = {
    "invert_odds": "give shares of views",
    "solarize_odds": "give shares of views",
    "speck_radius": "give shares of the view's shorter side",
    "speck_depth": "give shares of the way",
}


class ViewConfig(BaseModel):
    """Crops and their look. Defaults are the recommended values for plankton, or those of `augmentation`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    augmentation: AugmentationName = Field(
        default="plankton", description="set whose values every setting not given takes; plan/augmentation.py"
    )
    patch_choices: tuple[int, ...] = Field(
        default=(),
        description="patch sides in px, 1 to 64, of which each pack draws one, all equally likely; for one "
        "weight that serves them all (FlexiViT, Beyer 2023). Empty: model.patch_px alone",
    )
    locals: int = Field(default=8, ge=0, le=16, description="local views per image; globals are always 2")
    global_area: Range = Field(default=(0.32, 1.0), description="share of the image's area; DINOv2")
    local_area: Range = Field(default=(0.05, 0.32), description="share of the image's area; DINOv2")
    aspect: Range = Field(default=(3 / 4, 4 / 3), description="side ratio, beside the image's own; DINOv2")
    geometry: Literal["native", "square"] = Field(
        default="native",
        description="native: the image's own resolution, whole patches; square: stretched to a square of "
        "max_tokens patches (aspect is then the ratio itself, scale_jitter and min_tokens have no part); "
        "DINOv2",
    )
    rotate: bool = Field(default=True, description="any angle: plankton has no up")
    flip: bool = Field(default=True, description="half of the views mirrored; DINOv2 likewise")
    organism_aware: bool = Field(
        default=True, description="views centre on the box of the organism; else anywhere in the image"
    )
    scale_jitter: Range = Field(default=(0.8, 1.25), description="resampling factor, log-uniform")
    min_tokens: tuple[int, int] = Field(
        default=(16, 4), description="floor, patches per global and local view"
    )
    max_tokens: tuple[int, int] = Field(default=(256, 64), description="cap, patches; DINOv2: 256, 49")
    max_magnify: float = Field(
        default=2.0, ge=1, le=LARGEST, description="no view is magnified more to reach the floor"
    )
    max_reduce: float = Field(
        default=8.0, ge=1, le=LARGEST, description="no view is reduced more to keep the cap: it is cut"
    )
    gain: Range = Field(default=(0.6, 1.4), description="contrast about the background; DINOv2 jitter 0.4")
    offset: Range = Field(default=(-0.1, 0.1), description="added grey, full scale = 1")
    saturation: Range = Field(
        default=(0.8, 1.2), description="factor of the chroma, colour images only; DINOv2 jitter 0.2"
    )
    hue: Range = Field(
        default=(-0.02, 0.02),
        description="turns of the hue, -1 to 1, colour images only; little: colour is pigment (DINOv2 0.1)",
    )
    photometric_odds: float = Field(
        default=0.8, ge=0, le=1, description="views with gain, offset, saturation and hue; DINOv2"
    )
    grey_odds: float = Field(
        default=0.0, ge=0, le=1, description="views of colour images without their chroma; DINOv2 0.2"
    )
    invert_odds: Range = Field(
        default=(0.0, 0.2), description="polarity flipped, global 1 and 2 (solarize's place)"
    )
    solarize_odds: Range = Field(
        default=(0.0, 0.0),
        description="levels above one half mirrored at it, global 1 and 2; DINOv2 0, 0.2",
    )
    blur: Literal["paper", "released"] = Field(
        default="paper",
        description="paper: global 1 always, 2 at 0.1; released weights: never and 0.9 (upstream RandomApply "
        "inverts its probability, dinov3 #286)",
    )
    blur_sigma_px: Range = Field(default=(0.1, 2.0), description="Gaussian σ in output px; DINOv2")
    local_blur_odds: float = Field(default=0.5, ge=0, le=1, description="DINOv2")
    noise: Range = Field(default=(0.0, 0.02), description="σ of additive noise, full scale = 1")
    specks: int = Field(
        default=0,
        ge=0,
        le=MOST_SPECKS,
        description="most specks of detritus over a view; 0: none, as hidden patches occlude already",
    )
    speck_odds: float = Field(default=0.5, ge=0, le=1, description="views with specks, where there are any")
    speck_radius: Range = Field(
        default=(0.04, 0.1), description="radius, share of the view's shorter side, 0 to 1"
    )
    speck_depth: Range = Field(
        default=(0.3, 0.9),
        description="how dark (bright field) or bright (dark field) a speck is, share of the way from the "
        "background to black or white, 0 to 1",
    )
    token_drop: tuple[float, float] = Field(
        default=(0.0, 0.0),
        description="share of the patches of a global and of a local view that the student never gets, 0 to "
        "0.75; hidden ones stay, the teacher sees all. Fewer tokens, more images in a pack (NaViT)",
    )
    hide_scale_odds: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="views whose µm/px is hidden from the model, so that it learns both",
    )
    subtract_background: bool = Field(
        default=True, description="0 is the image's own background: less instrument, padding for free"
    )
    mean: float = Field(
        default=0.5, ge=-LARGEST, le=LARGEST, description="grey taken as 0 when the background is kept"
    )
    std: float = Field(default=0.25, ge=SMALLEST, le=LARGEST, description="grey, full scale = 1, taken as 1")

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, given: Any) -> Any:
        """What is not given comes from the named set, so that a printed config read back is the same."""
        name = given.get("augmentation") if isinstance(given, dict) else None
        return {**AUGMENTATIONS[name], **given} if name in [*AUGMENTATIONS] else given

    def departures(self) -> dict[str, Any]:
        """Settings that are not those of the set that `augmentation` names, and what they are."""
        of_set = ViewConfig(augmentation=self.augmentation).model_dump()
        return {name: value for name, value in self.model_dump().items() if value != of_set[name]}

    @model_validator(mode="after")
    def _ordered(self) -> "ViewConfig":
        for name in _RANGES:
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be low, high with low <= high, got {low}, {high}; swap them")
            if max(-low, high) > LARGEST:
                raise ValueError(f"{name} must be within ±{LARGEST:g}, got {low}, {high}; bring it nearer 0")
        for name in _POSITIVE:
            if (low := getattr(self, name)[0]) < SMALLEST:
                raise ValueError(
                    f"{name} must be positive, at least {SMALLEST:g}, got {low}; raise its low end"
                )
        for name in _NOT_NEGATIVE:
            if min(getattr(self, name)) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}; raise its low end")
        for name, fix in _SHARES.items():
            if not all(0 <= share <= 1 for share in getattr(self, name)):
                raise ValueError(f"{name} must be 0 to 1, got {getattr(self, name)}; {fix}")
        if max(map(abs, self.hue)) > 1:
            raise ValueError(f"hue must be -1 to 1 turns, got {self.hue}; bring it nearer 0")
        return self

    @model_validator(mode="after")
    def _patches(self) -> "ViewConfig":
        sides = self.patch_choices
        if len(set(sides)) < len(sides) or any(not 1 <= side <= MOST_PATCH_PX for side in sides):
            raise ValueError(
                f"patch_choices must be different sides of 1 to {MOST_PATCH_PX} px, got {list(sides)}; "
                "give for example [8, 12, 16]"
            )
        return self

    @model_validator(mode="after")
    def _droppable(self) -> "ViewConfig":
        if not all(0 <= share <= MOST_DROPPED for share in self.token_drop):
            raise ValueError(
                f"token_drop must be 0 to {MOST_DROPPED}, got {self.token_drop}; leave the student something"
            )
        return self

    @model_validator(mode="after")
    def _countable(self) -> "ViewConfig":
        if any(f < 1 or f > c for f, c in zip(self.min_tokens, self.max_tokens, strict=True)):
            raise ValueError(
                f"min_tokens must be 1 to max_tokens, got {self.min_tokens} and {self.max_tokens}; "
                "lower the floor"
            )
        if max(self.max_tokens) > MOST_TOKENS:
            raise ValueError(f"max_tokens must be up to {MOST_TOKENS}, got {self.max_tokens}; lower the cap")
        if self.geometry == "square" and any(math.isqrt(cap) ** 2 != cap for cap in self.max_tokens):
            raise ValueError(
                "max_tokens must be squares of whole numbers where geometry is square, got "
                f"{self.max_tokens}; give for example [256, 49]"
            )
        return self

    @model_validator(mode="after")
    def _renderable(self) -> "ViewConfig":
        """The widest Gaussian a training view can get is one that the renderers take."""
        # A view is reduced to keep the cap no further than max_reduce, or not at all where the jitter went
        # below that by itself (cut.bounded_zoom); σ falls with the zoom.
        least_zoom = min(self.scale_jitter[0], 1 / self.max_reduce)
        sigma = float(footprint_sigma(np.array([self.blur_sigma_px[1]]), np.array([least_zoom]))[0])
        if sigma > LARGEST_SIGMA:
            raise ValueError(
                f"blur_sigma_px, max_reduce and scale_jitter must keep sigma up to {LARGEST_SIGMA} source "
                f"px, got {sigma:g} (blur {self.blur_sigma_px[1]:g} px at zoom {least_zoom:g}); lower "
                "blur_sigma_px or max_reduce, or raise scale_jitter's low end"
            )
        return self

    @property
    def views(self) -> int:
        """Views of one image, S: 2 global, then the local ones."""
        return 2 + self.locals

    def area_S2(self) -> Float64[np.ndarray, "S 2"]:
        """Least and largest share of the image's area, of each view."""
        return np.array([self.global_area] * 2 + [self.local_area] * self.locals)

    def tokens_S2(self) -> Int32[np.ndarray, "S 2"]:
        """Floor and cap of the patches, of each view."""
        role_floor_cap = list(zip(self.min_tokens, self.max_tokens, strict=True))
        return np.array([role_floor_cap[0]] * 2 + [role_floor_cap[1]] * self.locals, np.int32)

    def token_drop_S(self) -> Float64[np.ndarray, " S"]:
        """Share of the patches that the student never gets, of each view."""
        of_global, of_local = self.token_drop
        return np.array([of_global] * 2 + [of_local] * self.locals)

    def invert_odds_S(self) -> Float64[np.ndarray, " S"]:
        """How often the polarity of each view is flipped; never that of a local one."""
        return np.array([*self.invert_odds, *[0.0] * self.locals])

    def solarize_odds_S(self) -> Float64[np.ndarray, " S"]:
        """How often each view is solarized; never a local one."""
        return np.array([*self.solarize_odds, *[0.0] * self.locals])

    def blur_odds_S(self) -> Float64[np.ndarray, " S"]:
        """How often each view is blurred."""
        of_globals = (1.0, 0.1) if self.blur == "paper" else (0.0, 0.9)
        return np.array([*of_globals, *[self.local_blur_odds] * self.locals])
