"""The verb for looking: explore."""

import argparse
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_verb, answer


def add_explore(verbs: Any) -> None:
    """Declare `aqqua explore` and what it can do."""
    parser = verbs.add_parser(
        "explore", help="a map of embeddings, with neighbours, scores and pictures",
        description="what a model knows, as a map (docs/explore.md)",
    )  # fmt: skip
    steps = parser.add_subparsers(title="steps", metavar="STEP", required=True)
    _add_build(steps)
    _add_serve(steps)
    _add_export(steps)
    _add_select(steps)


def _add_build(steps: Any) -> None:
    parser = add_verb(
        steps, "explore build", _run_build, "an atlas: map, neighbours, clusters, scores, thumbnails",
        "aqqua explore build --embeddings embeddings.parquet --dataset dataset --out atlas.parquet",
    )  # fmt: skip
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value", help="for example umap.min_dist=0.3 points=200000")
    add("--dataset", type=Path, required=True)
    add("--embeddings", type=Path, required=True, help="of aqqua embed: file or folder")
    add("--out", type=Path, required=True, help="new file, named .parquet")
    for name in ("predictions", "sizes", "carbon"):
        add(f"--{name}", type=Path, help=f"table of {name}: more to colour and filter by")
    add("--labels", metavar="MAP", help="what labels mean: adds the ranks of the taxonomy (docs/suites.md)")
    add("--align-to", type=Path, metavar="ATLAS", help="turn the map to lie like this one")
    add("--place-on", type=Path, metavar="ATLAS", help="keep this one's map, of the same model; place points")
    add("--config", type=Path, help="YAML file (default: every key's default)")
    add("--print-config", action="store_true", help="print the resolved config and stop")


def _run_build(parsed: argparse.Namespace) -> int:
    import sys

    from aqqua.config import load_config, to_yaml
    from aqqua.explore.atlas.build import build_atlas
    from aqqua.explore.atlas.inputs import AtlasConfig, AtlasInputs
    from aqqua.progress import Bar
    from aqqua.store.read import Dataset

    config = load_config(AtlasConfig, parsed.config, parsed.overrides)
    if parsed.print_config:
        sys.stdout.write(to_yaml(config))
        return 0
    given = {name: getattr(parsed, name) for name in ("predictions", "sizes", "carbon")}
    inputs = AtlasInputs(
        Dataset.open(parsed.dataset), parsed.embeddings, parsed.out,
        {name: path for name, path in given.items() if path}, _lineages(parsed.labels), parsed.align_to,
        parsed.place_on, f"aqqua {parsed.command}",
    )  # fmt: skip
    with Bar("explore", None, "") as bar:

        def tell(stage: str, done: int, total: int) -> None:
            bar.stage(f"explore: {stage}", "")
            bar.update(done, total=total)

        facts = build_atlas(inputs, config, tell)
    numbers = facts["numbers"]
    told = ", ".join(f"{n.replace('_', ' ')} {v:.3f}" for n, v in numbers.items() if isinstance(v, float))
    answer(parsed, {"out": str(parsed.out), **facts}, [f"{parsed.out}: {told}", *_approximations(facts)])
    return 0


def _approximations(facts: dict[str, Any]) -> list[str]:
    """Where not all images were compared or drawn by UMAP: how many, and what is so missed."""
    lines = []
    fitted, points = facts["umap"].get("fitted", facts["points"]), facts["points"]
    if "placed_on" not in facts["umap"] and fitted < points:
        lines.append(f"map: UMAP of {fitted} images; the other {points - fitted} stand by the most alike")
    for one in facts["searches"]:
        if one["method"] == "cells":
            shares = ", ".join(f"{share:.2f}" for share in one["recall"])
            lines.append(f"neighbours of {one['queries']} among {one['base']}: {shares} of the nearest found")
    return lines


def _lineages(name: str | None) -> dict[str, Any] | None:
    """Label as written -> its lineage."""
    if name is None:
        return None
    from aqqua.taxonomy.label_map import LabelMap

    return {label: one.lineage for label, one in LabelMap.load(name).labels.items() if one is not None}


def _add_serve(steps: Any) -> None:
    parser = add_verb(
        steps, "explore serve", _run_serve, "the explorer in a browser, by a server on this machine",
        "aqqua explore serve atlas.parquet --dataset dataset",
    )  # fmt: skip
    parser.add_argument("atlas", type=Path, help="of aqqua explore build")
    parser.add_argument("--beside", type=Path, metavar="ATLAS", help="another checkpoint's, side by side")
    parser.add_argument("--dataset", type=Path, help="to show images at their full size")
    parser.add_argument("--host", default="127.0.0.1", help="any other needs a token")
    parser.add_argument("--port", type=int, default=8047)
    parser.add_argument("--token", help="of 16 letters or more, which every visitor must have")


def _run_serve(parsed: argparse.Namespace) -> int:
    from aqqua.explore.server.serve import prepare, run

    served = prepare(
        parsed.atlas, parsed.beside, dataset=parsed.dataset, host=parsed.host, port=parsed.port,
        token=parsed.token,
    )  # fmt: skip
    answer(parsed, {"address": served.address}, [f"{served.address}   (Ctrl-C ends it)"])
    run(served)
    return 0


def _add_export(steps: Any) -> None:
    parser = add_verb(
        steps, "explore export", _run_export, "the explorer as a folder or one file, without a server",
        "aqqua explore export atlas.parquet --out atlas.html",
    )  # fmt: skip
    parser.add_argument("atlas", type=Path, help="of aqqua explore build")
    parser.add_argument("--beside", type=Path, metavar="ATLAS", help="another checkpoint's, side by side")
    parser.add_argument(
        "--out", type=Path, required=True, help="new folder; or one .html, 50,000 points at most; or .parquet"
    )
    parser.add_argument("--format", choices=("page", "embedding-atlas"), default="page",
                        help="embedding-atlas: a .parquet for that viewer (docs/explore.md)")  # fmt: skip


def _run_export(parsed: argparse.Namespace) -> int:
    from aqqua.explore.server.embedding_atlas import export_embedding_atlas
    from aqqua.explore.server.export import export_file, export_folder

    if parsed.format == "embedding-atlas":
        if parsed.beside is not None:
            raise ValueError("explore export: embedding-atlas shows one atlas, got two; leave out --beside")
        points = export_embedding_atlas(parsed.atlas, parsed.out)
    else:
        export = export_file if parsed.out.suffix == ".html" else export_folder
        points = export(parsed.atlas, parsed.out, parsed.beside)
    answer(parsed, {"out": str(parsed.out), "points": points}, [f"{parsed.out}: {points} points"])
    return 0


def _add_select(steps: Any) -> None:
    parser = add_verb(
        steps, "explore select", _run_select, "a selection as ids, labels, weights or for EcoTaxa",
        "aqqua explore select atlas.parquet --where \"novelty > 0.95\" --kind ids --out novel.csv",
    )  # fmt: skip
    parser.add_argument("atlas", type=Path, help="of aqqua explore build")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--ids", type=Path, help="file saved by the explorer, or one image id a line")
    chosen.add_argument("--where", metavar="SQL", help="condition on the atlas's columns")
    chosen.add_argument("--rows", type=int, nargs="+", help="numbers of points")
    parser.add_argument("--kind", choices=("ids", "labels", "weights", "ecotaxa"), default="ids",
                        help="weights: a subset that aqqua pretrain takes (data.weights)")  # fmt: skip
    parser.add_argument("--dataset", type=Path, help="weights, ecotaxa: where the images are")
    parser.add_argument("--label", help="labels: the new one of all of them")
    parser.add_argument("--predictions", type=Path, help="ecotaxa: classes that go with the images")
    parser.add_argument("--out", type=Path, required=True, help="new file or folder")


def _run_select(parsed: argparse.Namespace) -> int:
    from aqqua.explore.server.select import Wanted, select
    from aqqua.progress import count

    wanted = Wanted(rows=parsed.rows, ids=parsed.ids, where=parsed.where)
    found = select(
        parsed.atlas, parsed.out, parsed.kind, wanted, dataset=parsed.dataset, label=parsed.label,
        predictions=parsed.predictions,
    )  # fmt: skip
    values = {"out": str(found.path), "kind": found.kind, "images": found.images}
    answer(parsed, values, [f"{found.path}: {count(found.images, 'image')}"])
    return 0
