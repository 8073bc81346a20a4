"""Who lives in the sample: taxa, their sizes in µm, and how often each instrument meets them.

One size distribution per taxon serves every instrument: an instrument sees the part of it that
its optics can hold (`Camera.window_px`), as in the sea. Sizes are rounded textbook values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from aqqua.sample import animals, cells
from aqqua.sample.sketch import Sketch

Draw = Callable[[np.random.Generator], Sketch]


@dataclass(frozen=True, slots=True)
class Taxon:
    """A morphological class: length along the body, µm (median, sd of its logarithm), and surface."""

    name: str
    draw: Draw
    length_um: float
    spread: float
    grain: float  # contrast of the texture inside the body, 0 to 1


TAXA = {
    taxon.name: taxon
    for taxon in (
        Taxon("Coscinodiscus", cells.centric_diatom, 42, 0.35, 0.3),
        Taxon("Pennales", cells.pennate_diatom, 70, 0.4, 0.25),
        Taxon("Chaetoceros", cells.chaetoceros, 65, 0.45, 0.3),
        Taxon("Thalassiosira", cells.bead_chain, 95, 0.45, 0.3),
        Taxon("Guinardia", cells.guinardia, 105, 0.35, 0.3),
        Taxon("Ceratium", cells.ceratium, 95, 0.25, 0.3),
        Taxon("Gymnodiniales", cells.gymnodinium, 30, 0.35, 0.35),
        Taxon("Ciliophora", cells.ciliate, 45, 0.35, 0.35),
        Taxon("Copepoda", animals.copepod, 1300, 0.5, 0.35),
        Taxon("nauplius", animals.nauplius, 260, 0.4, 0.35),
        Taxon("Rhizaria", animals.radiolarian, 1500, 0.6, 0.4),
        Taxon("Appendicularia", animals.appendicularian, 2200, 0.4, 0.3),
        Taxon("Hydrozoa", animals.jellyfish, 4000, 0.5, 0.3),
        Taxon("Chaetognatha", animals.chaetognath, 7000, 0.4, 0.3),
        Taxon("Actinopterygii", animals.fish_larva, 5000, 0.35, 0.3),
        Taxon("Trichodesmium", animals.trichodesmium, 2200, 0.45, 0.4),
        # Marine snow and threads have no own size: from cell debris to flocs of a centimetre.
        Taxon("detritus", animals.detritus, 350, 1.7, 0.6),
        Taxon("fiber", animals.fiber, 1200, 1.3, 0.15),
        Taxon("bubble", animals.bubble, 380, 0.7, 0.1),
        Taxon("egg", animals.egg, 800, 0.25, 0.3),
    )
}

# How often each instrument meets each taxon: long-tailed, detritus first.
IFCB_MIX = {
    "detritus": 30,
    "Chaetoceros": 14,
    "Gymnodiniales": 12,
    "Thalassiosira": 10,
    "Pennales": 9,
    "Coscinodiscus": 7,
    "Ciliophora": 6,
    "Guinardia": 5,
    "Ceratium": 4,
    "nauplius": 1,
    "bubble": 1.5,
}
FLOWCAM_MIX = {
    "detritus": 45,
    "Gymnodiniales": 22,
    "Pennales": 12,
    "Coscinodiscus": 8,
    "Ciliophora": 6,
    "Thalassiosira": 4,
    "Chaetoceros": 3,
}
ZOOSCAN_MIX = {
    "detritus": 34,
    "Copepoda": 26,
    "Appendicularia": 8,
    "fiber": 6,
    "egg": 5,
    "Chaetognatha": 4,
    "Hydrozoa": 4,
    "Rhizaria": 4,
    "nauplius": 3,
    "bubble": 3,
    "Actinopterygii": 3,
}
UVP6_MIX = {
    "detritus": 55,
    "Rhizaria": 10,
    "Copepoda": 9,
    "Trichodesmium": 8,
    "fiber": 7,
    "Appendicularia": 4,
    "Hydrozoa": 3,
    "Chaetognatha": 2,
    "Actinopterygii": 2,
}
ISIIS_MIX = {
    "detritus": 26,
    "Copepoda": 17,
    "Appendicularia": 10,
    "Rhizaria": 10,
    "Trichodesmium": 8,
    "Hydrozoa": 8,
    "Chaetognatha": 7,
    "fiber": 6,
    "Actinopterygii": 5,
    "bubble": 3,
}


def local_mix(rng: np.random.Generator, mix: Mapping[str, float]) -> tuple[list[str], np.ndarray]:
    """Names and probabilities of one sample: the instrument's mix, disturbed as in a patchy sea."""
    weights = np.array(list(mix.values())) * rng.lognormal(0, 0.5, len(mix))
    return list(mix), weights / weights.sum()


def draw_length_um(rng: np.random.Generator, taxon: Taxon, window_um: tuple[float, float]) -> float:
    """A body length that the instrument can hold; the nearest limit when the taxon hardly fits."""
    for _ in range(20):
        length = taxon.length_um * float(np.exp(taxon.spread * rng.standard_normal()))
        if window_um[0] <= length <= window_um[1]:
            return length
    return float(np.clip(taxon.length_um, *window_um)) * rng.uniform(0.9, 1.1)
