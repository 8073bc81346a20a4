"""Linear probe as DINOv2 and DINOv3 train it: SGD for a few epochs, over a grid of rates.

Frozen features, so all rates are trained at once on the same batches. Unlike there, features are standardised
(those of other models and of baselines come in any unit) and never augmented, and the rate is chosen on
groups held back from the training rows, not on the rows that are asked.

Letters: N training rows, M asked rows, B rows of a batch, D width, C classes, K classes that occur in
training, G rates. Test: tests/evaluate/probes/test_linear.py.
Source: dinov2/eval/linear.py (rates, epochs, momentum, cosine); 1,250 steps of 128 there are an epoch.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from aqqua.evaluate.probes.descent import Course, descend
from aqqua.evaluate.probes.probe import (
    Advance,
    Always,
    HeldBack,
    Predictor,
    Standardised,
    labelled,
    one_thread,
    over_all_classes,
)
from aqqua.evaluate.probes.validation import validation_score
from aqqua.progress import silent

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)  # for a batch of 256
RATES_BATCH = 256
MOMENTUM = 0.9
START_STD = 0.01
CHUNK = 8192  # rows asked at a time


@dataclass(frozen=True)
class Linear:
    """One layer under SGD; the rate of best macro-F1 on groups held back is trained again on all rows."""

    rates: tuple[float, ...] = RATES
    epochs: int = 10
    batch: int = 128
    min_steps: int = 500
    device: str = "cpu"

    def fit(
        self,
        train_ND: Float[np.ndarray, "N D"],
        labels_N: Int[np.ndarray, " N"],
        classes: int,
        groups_N: Int[np.ndarray, " N"],
        seed: int = 0,
        advance: Advance = silent,
    ) -> Predictor:
        """See Probe.fit. On the CPU one thread is used, so that the answer is the same on any machine."""
        known = labelled(train_ND, labels_N, classes, groups_N, seed, "linear")
        if isinstance(known, Always):
            return known
        standardised = Standardised.of(train_ND)
        rows_ND = torch.from_numpy(standardised(train_ND)).to(self.device)
        labels, K = torch.from_numpy(known.label_N).to(self.device), len(known.present_K)
        with one_thread() if self.device == "cpu" else nullcontext():
            rate, found_HK = self._choose(rows_ND, labels, known.held_N, K, seed, advance)
            layer = self._train(rows_ND, labels, (rate,), K, seed, advance)
        held = None
        if found_HK is not None:
            held = HeldBack(known.held_N, over_all_classes(found_HK, known.present_K, classes))
        return LinearAnswers(layer, known.present_K, classes, standardised, rate, held)

    def _choose(
        self, rows_ND: Tensor, labels_N: Tensor, held_N: np.ndarray, K: int, seed: int, advance: Advance
    ) -> tuple[float, np.ndarray | None]:
        """The rate of best macro-F1 on the rows held back, and what it says of them, [H, K]; None untried."""
        if len(self.rates) == 1 or not held_N.any():
            return self.rates[len(self.rates) // 2], None
        held = torch.from_numpy(held_N).to(rows_ND.device)
        layer = self._train(rows_ND[~held], labels_N[~held], self.rates, K, seed, advance)
        found_MGK = layer.probabilities(rows_ND[held])
        truth = labels_N[held].cpu().numpy()
        scores = [validation_score(truth, found_MGK[:, g].cpu().numpy()) for g in range(len(self.rates))]
        best = int(np.argmax(scores))
        return self.rates[best], found_MGK[:, best].cpu().numpy()

    def _train(
        self, rows_ND: Tensor, labels_N: Tensor, rates: tuple[float, ...], K: int, seed: int, advance: Advance
    ) -> "Layers":
        layers = Layers(len(rates), rows_ND.shape[1], K, seed).to(rows_ND.device)
        scaled = [rate * self.batch / RATES_BATCH for rate in rates]
        pairs = zip(scaled, layers.weights, layers.biases, strict=True)
        groups = [{"params": [weight, bias], "lr": rate} for rate, weight, bias in pairs]
        optimizer = torch.optim.SGD(groups, momentum=MOMENTUM)
        course = Course(self.epochs, self.batch, self.min_steps)
        descend(
            optimizer, lambda rows: layers(rows_ND[torch.from_numpy(rows).to(rows_ND.device)]), labels_N,
            course, seed, advance,
        )  # fmt: skip
        return layers


class Layers(nn.Module):
    """G linear layers of the same shape and the same start."""

    def __init__(self, count: int, width: int, classes: int, seed: int):
        super().__init__()
        start_KD = torch.randn(classes, width, generator=torch.Generator().manual_seed(seed)) * START_STD
        self.weights = nn.ParameterList(start_KD.clone() for _ in range(count))
        self.biases = nn.ParameterList(torch.zeros(classes) for _ in range(count))

    def forward(self, rows_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B G K"]:
        """Logits of every layer."""
        logits = nn.functional.linear(rows_BD, torch.cat(list(self.weights)), torch.cat(list(self.biases)))
        return logits.unflatten(1, (len(self.weights), -1))

    @torch.no_grad()
    def probabilities(self, rows_MD: Float[Tensor, "M D"]) -> Float[Tensor, "M G K"]:
        """Of every layer, chunk by chunk."""
        return torch.cat([self(rows).softmax(dim=-1) for rows in rows_MD.split(CHUNK)])


@dataclass(frozen=True, eq=False)
class LinearAnswers:
    """A trained linear probe."""

    layer: Layers  # of one
    present_K: Int[np.ndarray, " K"]
    classes: int
    standardised: Standardised
    rate: float  # that was chosen
    held: HeldBack | None  # None where there was nothing to choose

    def probabilities(self, rows_MD: Float[np.ndarray, "M D"]) -> Float32[np.ndarray, "M C"]:
        """See Predictor."""
        rows = torch.from_numpy(self.standardised(rows_MD)).to(self.layer.weights[0].device)
        with one_thread():
            found_MK = self.layer.probabilities(rows)[:, 0].cpu().numpy()
        return over_all_classes(found_MK, self.present_K, self.classes)
