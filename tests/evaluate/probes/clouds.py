"""Made-up features: a cloud of rows round each class, in groups that shift all their rows alike."""

import numpy as np


def clouds(per_class=30, seed=0, spread=0.5, classes=4, width=6, groups=10, shift=0.3, plain=False):
    """Rows, labels and groups; every group holds rows of every class. Columns differ in unit and offset,
    unless they are `plain`."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    group = np.arange(len(labels)) % groups
    moved = draw.normal(scale=shift, size=(groups, width))[group]
    rows = np.eye(classes, width)[labels] * 4 + draw.normal(scale=spread, size=(len(labels), width)) + moved
    unit = 10.0 ** (np.arange(width) % 4 - 1)
    if plain:
        return rows.astype(np.float32), labels, group
    return (rows * unit + 1000).astype(np.float32), labels, group
