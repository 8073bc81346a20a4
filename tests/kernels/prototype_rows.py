"""Logits to try the prototype loss on, and their Sinkhorn in the words of the publication."""

import torch

from aqqua.kernels.prototype_loss import Teacher, balance, dino_targets, row_normalisers

K = 37


def draw(*shape, seed=0, size=1.0, dtype=torch.float32, device="cpu"):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size
    return x.to(device=device, dtype=dtype)


def published_in_logs(logits, temperature, iterations=3):
    """The loop of dinov2/loss/dino_clstoken_loss.py in logs and float64: log of the probabilities."""
    log_q_KB = (logits.double() / temperature).T
    for _ in range(iterations):
        log_q_KB = log_q_KB - log_q_KB.logsumexp(dim=1, keepdim=True)
        log_q_KB = log_q_KB - log_q_KB.logsumexp(dim=0, keepdim=True)
    return log_q_KB.T


def solve(rows, temperature, backend, **options):
    log_u = balance([rows], temperature, backend=backend, **options)
    return Teacher(rows, log_u, row_normalisers(rows, temperature, log_u, backend), temperature)


def dino_case(dtype, device, S=4, G=2, images=3):
    student = draw(S * images, K, seed=1, dtype=dtype, device=device)
    teacher = draw(G * images, K, seed=2, dtype=dtype, device=device)
    weight = draw(S * images, seed=3, device=device).abs()
    return student, teacher, dino_targets(S, G, images).to(device), weight
