"""What is not known of an image's carbon: its size, its class, and the relation itself.

Every draw takes a class by the scores, a size (log-normal about the measured one) and a relation shifted by
its error. Size and class are drawn by the image's key, so an image has the same draws alone, in a batch of
any size, in any order. The error of a relation is one number per draw for all images: it does not average out
over a sample, and the interval of a sum stays honest.

Letters: I images, C classes, K draws, R relations. Test: tests/downstream/carbon/test_carbon_monte_carlo.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt64

from aqqua.downstream.carbon.choose import Choice
from aqqua.downstream.carbon.registry import QUANTITIES
from aqqua.downstream.carbon.relation import Relation
from aqqua.plan.philox import Purpose, uniforms
from aqqua.store.content import image_key

LOW, HIGH = 0.025, 0.975  # the interval
POWER = {
    "count": 0,
    "diameter": 1,
    "area": 2,
    "volume": 3,
}  # of length, by the quantity of a relation's input
CHUNK = 2048  # images at a time: I·K numbers are some megabytes
UNKNOWN, NOTHING = -2, -1  # in place of a relation: not known; holds no carbon


@dataclass(frozen=True)
class Uncertainty:
    """What is drawn.

    size_sd and relation_log10_sd are assumptions of ours, for want of published ones: 5 % of a length is a
    pixel at an outline 20 px across; 0.15 is a factor of 1.4 either way.
    """

    draws: int = 200
    seed: int = 0
    size_sd: float = 0.05  # standard deviation of the natural logarithm of a length
    relation_log10_sd: float = 0.15  # of relations that state no error of their own
    classes: bool = True  # draw the class by the scores; else it is as predicted

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= 10_000:
            raise ValueError(f"carbon: draws must be 1 to 10,000, got {self.draws}; 200 do for an interval")
        for name in ("size_sd", "relation_log10_sd"):
            if not 0 <= getattr(self, name) < 2:
                raise ValueError(f"carbon: {name} must be 0 to 2, got {getattr(self, name)}; correct it")


@dataclass(frozen=True)
class CarbonSizes:
    """Of I images; NaN where unknown."""

    volume_um3_I: Float64[np.ndarray, " I"]
    area_um2_I: Float64[np.ndarray, " I"]

    def log10_of(self) -> Float64[np.ndarray, "4 I"]:
        """log10 of x by its power of length: a count of one, diameter [µm], area [µm²], volume [µm³]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            area, volume = np.log10(self.area_um2_I), np.log10(self.volume_um3_I)
        return np.stack(
            [np.where(np.isnan(area), np.nan, 0.0), (area + np.log10(4 / np.pi)) / 2, area, volume]
        )


class CarbonModel:
    """Carbon of images, in pg, from classes and sizes."""

    def __init__(self, choices: Sequence[Choice | None], uncertainty: Uncertainty) -> None:
        """
        Args:
            choices: of each class, in the order of the scores.
        """
        self.choices, self.uncertainty = list(choices), uncertainty
        found: dict[tuple[str, tuple[float, float]], tuple[Relation, tuple[float, float]]] = {}
        for choice in filter(None, choices):
            for relation in (choice.below, choice.above):
                if relation is not None:
                    found[relation.entry.id, choice.factor] = (relation, choice.factor)
        self._names = list(found)
        used = list(found.values())
        self._power_R = np.array([POWER[r.entry.input.quantity] for r, _ in used], np.int64)
        self._slope_R = np.array([r.slope for r, _ in used])
        # In µm to a power of length, and pg, everything but the factor.
        self._intercept_R = np.array([_intercept(r) for r, _ in used])
        self._sd_R = np.array([r.entry.error_log10 or uncertainty.relation_log10_sd for r, _ in used])
        self._factor_R = np.array([factor for _, factor in used]).reshape(len(used), 2)
        self._below_C = np.array([self._place(choice, above=False) for choice in choices], np.int64)
        self._above_C = np.array([self._place(choice, above=True) for choice in choices], np.int64)
        self._split_C = np.log10([choice.split_um3 if choice else np.inf for choice in choices])

    def _place(self, choice: Choice | None, above: bool) -> int:
        if choice is None:
            return UNKNOWN
        relation = choice.above if above and choice.above is not None else choice.below
        return NOTHING if relation is None else self._names.index((relation.entry.id, choice.factor))

    def estimate(self, class_I: Int64[np.ndarray, " I"], sizes: CarbonSizes) -> Float64[np.ndarray, " I"]:
        """Carbon of each image as if class, size and relation were true, pg; NaN where unknown."""
        none_I = np.zeros((len(class_I), 1))
        logarithm_I1, relation_I1 = self._log10(class_I[:, None], sizes.log10_of(), none_I)
        factor_I = (
            self._factor_R.mean(axis=1)[np.maximum(relation_I1[:, 0], 0)] if len(self._factor_R) else 1.0
        )
        return _finished(logarithm_I1[:, 0], relation_I1[:, 0]) * factor_I

    def draw_classes(
        self,
        key_I: UInt64[np.ndarray, " I"],
        class_I: Int64[np.ndarray, " I"],
        scores_IC: Float[np.ndarray, "I C"],
    ) -> Int64[np.ndarray, "I K"]:
        """A class for every image and draw, by the scores."""
        settings = self.uncertainty
        if not settings.classes:
            return np.repeat(class_I[:, None], settings.draws, axis=1)
        draw_IK = uniforms(settings.seed, key_I, np.zeros_like(key_I), Purpose.CARBON_CLASS, settings.draws)
        return drawn_classes(scores_IC, draw_IK)

    def draw(
        self, key_I: UInt64[np.ndarray, " I"], class_IK: Int64[np.ndarray, "I K"], sizes: CarbonSizes
    ) -> Float64[np.ndarray, "I K"]:
        """Carbon of every image in every draw, pg; NaN where unknown."""
        settings = self.uncertainty
        words = uniforms(settings.seed, key_I, np.zeros_like(key_I), Purpose.CARBON_SIZE, settings.draws)
        length_IK = settings.size_sd / np.log(10) * _normal(words)
        logarithm_IK, relation_IK = self._log10(class_IK, sizes.log10_of(), length_IK)
        if not self._names:
            return _finished(logarithm_IK, relation_IK)
        shift_RK, factor_RK = self._of_relations()
        at_IK, draw_K = np.maximum(relation_IK, 0), np.arange(settings.draws)
        carbon_IK = _finished(logarithm_IK + shift_RK[at_IK, draw_K], relation_IK)
        return carbon_IK * np.where(relation_IK >= 0, factor_RK[at_IK, draw_K], 1.0)

    def _of_relations(self) -> tuple[np.ndarray, np.ndarray]:
        """Shift of log10 y, and factor, of every relation in every draw: the same for all images."""
        keys = np.array([image_key(f"{name}*{factor}") for name, factor in self._names], np.uint64)
        words = uniforms(
            self.uncertainty.seed,
            keys,
            np.zeros_like(keys),
            Purpose.CARBON_RELATION,
            2 * self.uncertainty.draws,
        )
        shift_RK = self._sd_R[:, None] * _normal(words[:, : self.uncertainty.draws])
        low_R, high_R = self._factor_R[:, :1], self._factor_R[:, 1:]
        return shift_RK, low_R + (high_R - low_R) * words[:, self.uncertainty.draws :]

    def _log10(
        self, class_IK: np.ndarray, size_4I: np.ndarray, length_IK: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """log10 of carbon before the factor, and the relation taken."""
        volume_IK = size_4I[3][:, None] + 3 * length_IK
        larger_IK = volume_IK > self._split_C[class_IK]
        relation_IK = np.where(larger_IK, self._above_C[class_IK], self._below_C[class_IK])
        if not self._names:
            return np.where(np.isnan(volume_IK), np.nan, 0.0), relation_IK
        at_IK = np.maximum(relation_IK, 0)
        power_IK = self._power_R[at_IK]
        x_IK = size_4I[power_IK, np.arange(len(class_IK))[:, None]] + power_IK * length_IK
        return self._intercept_R[at_IK] + self._slope_R[at_IK] * x_IK, relation_IK


def drawn_classes(
    scores_IC: Float[np.ndarray, "I C"], draw_IK: Float64[np.ndarray, "I K"]
) -> Int64[np.ndarray, "I K"]:
    """Class whose span of the cumulative scores holds the draw; scores need not sum to exactly 1."""
    images, classes = scores_IC.shape
    cumulative_IC = np.cumsum(scores_IC, axis=1, dtype=np.float64)
    total_I1 = cumulative_IC[:, -1:]
    cumulative_IC /= np.where(total_I1 > 0, total_I1, 1)
    cumulative_IC[:, -1] = 1.0
    # One sorted row of all images: image i lies between i and i + 1.
    row_I1 = np.arange(images, dtype=np.float64)[:, None]
    flat = np.searchsorted((cumulative_IC + row_I1).ravel(), (draw_IK + row_I1).ravel(), side="right")
    return np.clip(flat.reshape(draw_IK.shape) - classes * row_I1.astype(np.int64), 0, classes - 1)


def interval(carbon_IK: Float64[np.ndarray, "I K"]) -> Float64[np.ndarray, "2 I"]:
    """LOW and HIGH quantile of the draws that are known; NaN where none is."""
    result = np.full((2, len(carbon_IK)), np.nan)
    known_I = np.isfinite(carbon_IK).any(axis=1)
    if known_I.any():
        result[:, known_I] = np.nanquantile(carbon_IK[known_I], [LOW, HIGH], axis=1)
    return result


def _intercept(relation: Relation) -> float:
    """log10 y [pg] at x = 1 µm to the power of the quantity."""
    quantity = relation.entry.input.quantity
    scale = np.log10(relation.input_factor(QUANTITIES[quantity]))
    return float(relation.intercept + relation.slope * scale + np.log10(relation.output_factor("pg")))


def _finished(logarithm: np.ndarray, relation: np.ndarray) -> np.ndarray:
    carbon: np.ndarray = np.where(
        relation == UNKNOWN, np.nan, np.where(relation == NOTHING, 0.0, 10.0**logarithm)
    )
    return carbon


def _normal(draw: np.ndarray) -> np.ndarray:
    """Standard normal from uniform draws, which are multiples of 2**-24 from 0."""
    from scipy.special import ndtri

    normal: np.ndarray = ndtri(draw + 2.0**-25)
    return normal
