"""The tables of curation in bench/README.md: clusters, copies, balance."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from targets import load_targets

Row = Mapping[str, Any]
Table = tuple[str, tuple[str, ...], list[tuple[object, ...]]]  # a sentence, the head, the body
TARGETS = load_targets()


def tables(folder: Path) -> Iterator[Table]:
    """Of the newest rows of each kind."""
    curate = _rows(folder / "curate.jsonl")
    for row in [row for row in curate if row["kind"] == "beside"][-1:]:
        yield _beside(row)
    for row in [row for row in curate if row["kind"] == "large"][-1:]:
        yield _large(row)
    copies = [{**one, "of": row} for row in _rows(folder / "duplicates.jsonl") for one in row["rows"]]
    planted = {one["dataset"]: one for one in copies if "found" in one}  # the newest of each set
    if planted:
        yield _copies(list(planted.values()))
    for one in [one for one in copies if "whole" in one][-1:]:
        yield _whole(one)
    balance = {row["mix"]: row for row in _rows(folder / "curate_balance.jsonl")}
    if balance:
        yield _balance(list(balance.values()))


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():  # not measured yet
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _met(name: str, value: float | None) -> str:
    """A cell: whether a figure reaches the goal of a target; empty where it is not held against it."""
    return "" if value is None else "yes" if TARGETS[name].met(value) else "**no**"


def _made(row: Row) -> str:
    return f"`{row['command']}`, commit {row['commit'][:10]}"


def _beside(row: Row) -> Table:
    body = [
        (
            one["width"],
            f"{one['clusters']:,}",
            f"{one['ours']:,}",
            *_times(one),
            f"{one['same_as_faiss']:.2%}",
        )
        for one in row["assign"]
    ]
    head = ("width", "clusters", "ours, vectors/s a core", "× faiss", "× scikit-learn", "same label as faiss")
    sentence = (
        f"Nearest centroids, float32, one thread each, in turns ({_made(row)}). Mean squared distance after "
        f"{row['quality']['iterations']} iterations from one start: ours {row['quality']['ours']:.3f}, faiss "
        f"{row['quality']['faiss_from_our_start']:.3f}, scikit-learn "
        f"{row['quality']['sklearn_from_our_start']:.3f}; each from its own start "
        f"{row['quality']['ours']:.2f}, {row['quality']['faiss']:.2f}, {row['quality']['sklearn']:.2f}. "
        f"3·10⁹ images × 384: {'; '.join(' '.join(line.split()) for line in row['cost_of_3e9'])}."
    )
    return sentence, head, body


def _times(one: Row) -> tuple[str, str]:
    return f"{one['of_faiss']:.2f}", f"{one['of_sklearn_predict']:.2f}"


def _large(row: Row) -> Table:
    target = TARGETS["clusters_memory"]
    seconds = " + ".join(f"{row[f'{name}_s']:g}" for name in ("train", "assign"))
    body = [
        (
            f"{row['vectors']:,} × {row['width']}", f"{row['clusters']:,}", f"{row['sampled']:,}",
            f"{row['peak_resident_mb']:,} MB", seconds, f"{row['assign_vectors_s']:,}",
            f"{row['purity']:.3f}", _met("clusters_memory", target.value(row)),
        )
    ]  # fmt: skip
    head = ("vectors", "clusters", "trained on", "peak resident", "train + assign, s", "vectors/s", "purity",
            "goal met")  # fmt: skip
    sentence = f"{target.what} in {target.in_words()} ({_made(row)})."
    return sentence, head, body


def _copies(rows: list[Row]) -> Table:
    kinds = sorted({kind for one in rows for kind in one["found"]})
    body = [
        (
            one["dataset"], f"{one['images']:,}", one["of_each"],
            *(f"{one['found'][kind]:.3f}" for kind in kinds), one["natural_pairs"],
            _met("copies_found", min(one["found"].values())),
        )
        for one in rows
    ]  # fmt: skip
    commands = "; ".join(dict.fromkeys(_made(one["of"]) for one in rows))
    sentence = (
        f"Planted copies found among real images, all in one group; goal {TARGETS['copies_found'].goal:.0%} "
        f"of each kind, 0.1 % false pairs ({commands})."
    )
    return sentence, ("set", "images", "copies of each kind", *kinds, "other pairs", "goal met"), body


def _whole(one: Row) -> Table:
    head = ("set, one group", "images/s a core", "candidates", "pairs/s", "pairs/s of the specification")
    numbers = (one["images_per_s"], one["candidates"], one["pairs_per_s"], one["pairs_per_s_python"])
    body = [(one["whole"], *(f"{number:,}" for number in numbers))]
    return f"Near duplicates of a whole dataset ({_made(one['of'])}).", head, body


def _balance(rows: list[Row]) -> Table:
    body = [
        (
            row["mix"], name, one["uniform"], one["weighted"], f"{one['ratio']:.2f}",
            "{:.2f}–{:.2f}".format(*one["ratio_95"]),
            f"{one['five_largest_uniform']:.0%} → {one['five_largest_weighted']:.0%}",
            _met("balance", one["ratio"] if row["mix"] == "natural" else None),
        )
        for row in rows
        for name, one in row["of"].items()
    ]  # fmt: skip
    head = ("mix", "embeddings", "uniform", "weighted", "ratio", "95 %", "five largest classes", "goal met")
    commands = "; ".join(_made(row) for row in rows)
    return (
        f"Effective number of classes (e to the entropy) under the weights, made without labels; goal "
        f"{TARGETS['balance'].in_words()} at natural imbalance ({commands}).",
        head,
        body,
    )
