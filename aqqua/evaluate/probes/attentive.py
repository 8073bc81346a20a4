"""Attentive probe: one query looks over an image's frozen patch tokens, a linear layer names what it saw.

For what a CLS token leaves out: small parts, many bodies in one image, traits. Patches are packed end to end,
so images of any size are asked at their own. Token widths are standardised by the training tokens.

A single learned query and a key projection are one vector per head: q·(W x) = (Wᵀq)·x, so that vector is what
is learned. Letters: N training images, M asked images, B images of a batch, T their tokens, D width, H heads,
E head width, C classes, K classes that occur in training, G rates.
Test: tests/evaluate/probes/test_attentive.py.
Source: cross-attention probe of V-JEPA (arXiv 2404.08471, section 4) and AIM (2401.08541), without its MLP.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from aqqua.evaluate.probes.descent import Course, descend
from aqqua.evaluate.probes.probe import Advance, Always, HeldBack, labelled, one_thread, over_all_classes
from aqqua.evaluate.probes.validation import validation_score
from aqqua.evaluate.tokens import PatchTokens
from aqqua.kernels.segment import attentive_pool
from aqqua.progress import silent

RATES = (1e-4, 3e-4, 1e-3, 3e-3)  # of AdamW
WEIGHT_DECAY = 0.01
HEAD_WIDTH = 64
START_STD = 0.02
CHUNK = 256  # images asked at a time
SAMPLED = 4096  # images whose tokens say what is usual


@dataclass(frozen=True)
class Attentive:
    """AdamW over a grid of rates; the best by macro-F1 on groups held back is trained again on all images."""

    rates: tuple[float, ...] = RATES
    epochs: int = 10
    batch: int = 64
    min_steps: int = 300
    device: str = "cpu"

    def fit(
        self,
        train: PatchTokens,
        labels_N: Int[np.ndarray, " N"],
        classes: int,
        groups_N: Int[np.ndarray, " N"],
        seed: int = 0,
        advance: Advance = silent,
    ) -> "AttentiveHead | Always":
        """See Probe.fit, with tokens in place of rows. On the CPU one thread is used.

        Raises:
            ValueError: images, labels and groups do not fit together, or a token is not finite.
        """
        mean_D, std_D = _usual(train, seed)
        usual_ND = np.broadcast_to(mean_D, (len(train), len(mean_D)))
        known = labelled(usual_ND, labels_N, classes, groups_N, seed, "attentive")
        if isinstance(known, Always):
            return known
        label_N, held_N, K = known.label_N, known.held_N, len(known.present_K)
        with one_thread() if self.device == "cpu" else nullcontext():
            rate, back = self.rates[len(self.rates) // 2], None
            if len(self.rates) > 1 and held_N.any():
                kept, held = np.flatnonzero(~held_N), np.flatnonzero(held_N)
                looks = Looks(len(self.rates), K, mean_D, std_D, seed).to(self.device)
                self._train(looks, train.take(kept), label_N[kept], self.rates, seed, advance)
                found_MGK = looks.probabilities(train.take(held))
                scores = [validation_score(label_N[held], found_MGK[:, g]) for g in range(len(self.rates))]
                best = int(np.argmax(scores))
                found_HC = over_all_classes(found_MGK[:, best], known.present_K, classes)
                rate, back = self.rates[best], HeldBack(held_N, found_HC)
            look = Looks(1, K, mean_D, std_D, seed).to(self.device)
            self._train(look, train, label_N, (rate,), seed, advance)
        return AttentiveHead(look, known.present_K, classes, rate, back)

    def _train(
        self, looks: "Looks", train: PatchTokens, label_N: np.ndarray, rates: tuple[float, ...], seed: int,
        advance: Advance,
    ) -> None:  # fmt: skip
        pairs = zip(rates, looks.heads, strict=True)
        groups = [{"params": list(head.parameters()), "lr": rate} for rate, head in pairs]
        optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
        labels = torch.from_numpy(label_N).to(self.device)
        course = Course(self.epochs, self.batch, self.min_steps)
        descend(optimizer, lambda images: looks(*train.pack(images)), labels, course, seed, advance)


class Look(nn.Module):
    """The parameters of one head."""

    def __init__(self, width: int, classes: int, seed: int):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        heads = width // HEAD_WIDTH if width >= HEAD_WIDTH and width % HEAD_WIDTH == 0 else 1
        self.query_HD = nn.Parameter(torch.randn(heads, width, generator=draw) * START_STD)
        self.value_DD = nn.Parameter(torch.randn(width, width, generator=draw) / width**0.5)
        self.class_KD = nn.Parameter(torch.randn(classes, width, generator=draw) * START_STD)
        self.class_K = nn.Parameter(torch.zeros(classes))


class Looks(nn.Module):
    """G heads over the same tokens."""

    mean_D: Tensor
    std_D: Tensor

    def __init__(self, count: int, classes: int, mean_D: np.ndarray, std_D: np.ndarray, seed: int):
        super().__init__()
        self.register_buffer("mean_D", torch.from_numpy(mean_D).float())
        self.register_buffer("std_D", torch.from_numpy(std_D).float())
        self.heads = nn.ModuleList(Look(len(mean_D), classes, seed) for _ in range(count))

    def forward(
        self, tokens_TD: Float32[np.ndarray, "T D"], offsets_B1: Int[np.ndarray, " B1"]
    ) -> Float[Tensor, "B1-1 G K"]:
        """Logits of every head."""
        x_TD = (torch.from_numpy(tokens_TD).to(self.mean_D.device) - self.mean_D) / self.std_D
        offsets = torch.from_numpy(offsets_B1).to(x_TD.device)
        found = []
        for head in self.heads:
            assert isinstance(head, Look)
            scores_TH = x_TD @ head.query_HD.T
            values_THE = (x_TD @ head.value_DD.T).unflatten(1, (len(head.query_HD), -1))
            seen_BD = attentive_pool(values_THE.contiguous(), scores_TH.contiguous(), offsets, 0).flatten(1)
            found.append(seen_BD @ head.class_KD.T + head.class_K)
        return torch.stack(found, dim=1)

    @torch.no_grad()
    def probabilities(self, tokens: PatchTokens) -> Float32[np.ndarray, "M G K"]:
        """Of every head for every image, chunk by chunk."""
        starts = range(0, len(tokens), CHUNK)
        images = [np.arange(at, min(at + CHUNK, len(tokens))) for at in starts]
        return np.concatenate([self(*tokens.pack(some)).softmax(dim=-1).cpu().numpy() for some in images])


@dataclass(frozen=True, eq=False)
class AttentiveHead:
    """A trained attentive probe."""

    look: Looks  # of one head
    present_K: Int[np.ndarray, " K"]
    classes: int
    rate: float  # that was chosen
    held: HeldBack | None  # None where there was nothing to choose

    def probabilities(self, tokens: PatchTokens) -> Float32[np.ndarray, "M C"]:
        """See Predictor."""
        if not len(tokens):
            return np.zeros((0, self.classes), np.float32)
        with one_thread():
            return over_all_classes(self.look.probabilities(tokens)[:, 0], self.present_K, self.classes)


def _usual(train: PatchTokens, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the tokens, of SAMPLED images where there are more; a still column keeps 1."""
    images = np.arange(len(train))
    if len(images) > SAMPLED:
        images = np.sort(np.random.default_rng(seed).choice(images, SAMPLED, replace=False))
    count, total, squares = 0, np.zeros(train.width), np.zeros(train.width)
    for at in range(0, len(images), CHUNK):
        tokens_TD = train.pack(images[at : at + CHUNK])[0].astype(np.float64)
        count, total, squares = (
            count + len(tokens_TD),
            total + tokens_TD.sum(0),
            squares + (tokens_TD**2).sum(0),
        )
    mean_D = total / max(count, 1)
    std_D = np.sqrt((squares / max(count, 1) - mean_D**2).clip(0))
    return mean_D, np.where(std_D > 1e-6, std_D, 1.0)
