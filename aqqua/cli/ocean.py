"""The verbs from images to the ocean: sizes, carbon, samples, grid."""

import argparse
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_verb, answer


def add_sizes(verbs: Any) -> None:
    """Declare `aqqua sizes`."""
    parser = add_verb(verbs, "sizes", _run_sizes, "length, area and volume of each organism, in µm",
                      "aqqua sizes dataset --out sizes.parquet")  # fmt: skip
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="new file, named .parquet")
    parser.add_argument("--objects", choices=("largest", "all"), default="largest",
                        help="what of an image counts (IFCB's summedArea is of all)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes")


def _run_sizes(parsed: argparse.Namespace) -> int:
    from aqqua.downstream.size.table import SizeSettings, write_sizes
    from aqqua.progress import Bar
    from aqqua.spread import Engine
    from aqqua.store.read import Dataset

    dataset = Dataset.open(parsed.dataset)
    with Bar("sizes", dataset.rows, "images") as bar:
        counts = write_sizes(
            dataset, parsed.out, SizeSettings(parsed.objects), f"aqqua {parsed.command}", bar.update,
            Engine(workers=parsed.workers),
        )  # fmt: skip
    _tell(parsed, counts)
    return 0


def add_carbon(verbs: Any) -> None:
    """Declare `aqqua carbon`."""
    parser = add_verb(
        verbs, "carbon", _run_carbon, "carbon of each organism, by published relations, with its error",
        "aqqua carbon predictions.parquet --sizes sizes.parquet --out carbon.parquet",
    )  # fmt: skip
    parser.add_argument("predictions", type=Path, help="of aqqua predict")
    parser.add_argument("--sizes", type=Path, required=True, help="of aqqua sizes")
    parser.add_argument("--out", type=Path, required=True, help="new file, named .parquet")
    parser.add_argument("--volume", choices=("sphere", "prolate", "moberg_sosik"), default="moberg_sosik",
                        help="that relations of volume take")  # fmt: skip
    parser.add_argument("--diatoms", choices=("iRfcb", "ifcb-analysis"), default="iRfcb",
                        help="which of two codes that disagree up to 3000 µm³")  # fmt: skip
    parser.add_argument("--allow-unverified", action="store_true",
                        help="relations nobody has checked in the paper too: all of animals")  # fmt: skip
    parser.add_argument("--draws", type=int, default=200, help="of the Monte Carlo")
    parser.add_argument("--seed", type=int, default=0)


def _run_carbon(parsed: argparse.Namespace) -> int:
    from aqqua.downstream.carbon.monte_carlo import Uncertainty
    from aqqua.downstream.carbon.settings import CarbonSettings
    from aqqua.downstream.carbon.table import write_carbon
    from aqqua.downstream.predictions import Predictions
    from aqqua.downstream.size.table import open_sizes
    from aqqua.progress import Bar

    predictions, sizes = Predictions.open(parsed.predictions), open_sizes(parsed.sizes)
    uncertainty = Uncertainty(draws=parsed.draws, seed=parsed.seed)
    settings = CarbonSettings(parsed.volume, parsed.allow_unverified, parsed.diatoms, uncertainty)
    with Bar("carbon", predictions.rows, "images") as bar:
        counts = write_carbon(predictions, sizes, parsed.out, settings, f"aqqua {parsed.command}", bar.update)
    _tell(parsed, counts)
    return 0


def add_samples(verbs: Any) -> None:
    """Declare `aqqua samples`."""
    parser = add_verb(
        verbs, "samples", _run_samples, "what each sample held in a cubic metre: numbers, volume, carbon",
        "aqqua samples predictions.parquet --sizes sizes.parquet --out samples.parquet",
    )  # fmt: skip
    parser.add_argument("predictions", type=Path, help="of aqqua predict")
    parser.add_argument("--sizes", type=Path, help="of aqqua sizes: biovolume")
    parser.add_argument("--carbon", type=Path, help="of aqqua carbon; needs --sizes")
    parser.add_argument("--out", type=Path, required=True, help="new file, named .parquet")
    parser.add_argument("--leave-out-without-volume", action="store_true",
                        help="samples without a sampled volume, which else end it")  # fmt: skip
    parser.add_argument("--fill-missing", action="store_true",
                        help="images without size or carbon count as the mean of their class")  # fmt: skip


def _run_samples(parsed: argparse.Namespace) -> int:
    from aqqua.downstream.carbon.table import open_carbon
    from aqqua.downstream.predictions import Predictions
    from aqqua.downstream.samples.table import SampleSettings, write_samples
    from aqqua.downstream.size.table import open_sizes
    from aqqua.progress import Bar

    predictions = Predictions.open(parsed.predictions)
    sizes = None if parsed.sizes is None else open_sizes(parsed.sizes)
    carbon = None if parsed.carbon is None else open_carbon(parsed.carbon)
    settings = SampleSettings(parsed.leave_out_without_volume, parsed.fill_missing)
    with Bar("samples", predictions.rows, "images") as bar:
        found = write_samples(
            predictions, parsed.out, sizes, carbon, settings, f"aqqua {parsed.command}", bar.update
        )
    counts = {"images": found.images, "samples": found.samples}
    _tell(parsed, counts | {f"left out, no volume: {name}": n for name, n in found.left_out.items()})
    return 0


def add_grid(verbs: Any) -> None:
    """Declare `aqqua grid`."""
    parser = add_verb(verbs, "grid", _run_grid, "samples as a CF-NetCDF map, and a picture of it",
                      "aqqua grid samples.parquet --out map.nc cell_degrees=5 --picture map.png")  # fmt: skip
    parser.add_argument("samples", type=Path, help="of aqqua samples")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example cell_degrees=5 time=month"
    )
    parser.add_argument("--out", type=Path, required=True, help="new file, named .nc")
    parser.add_argument("--config", type=Path, help="YAML file (default: every key's default)")
    parser.add_argument("--picture", type=Path, help="also a new .png, of one time and one layer")
    parser.add_argument("--title", default="Plankton from images", help="of the map")
    parser.add_argument("--institution", default="not stated", help="whose it is")


def _run_grid(parsed: argparse.Namespace) -> int:
    from aqqua.config import load_config
    from aqqua.downstream.grid.axes import GridConfig
    from aqqua.downstream.grid.netcdf import MapAbout, write_grid
    from aqqua.downstream.grid.picture import draw

    config = load_config(GridConfig, parsed.config, parsed.overrides)
    about = MapAbout(parsed.title, parsed.institution, f"aqqua {parsed.command}")
    if parsed.picture and (config.depth_edges_m or config.time != "all"):
        raise ValueError("grid: a picture is of one time and one layer, got several; leave out --picture")
    found = write_grid(parsed.samples, parsed.out, config, about)
    if parsed.picture:
        draw(found, parsed.picture, parsed.title)
    values = {"out": str(parsed.out), "picture": str(parsed.picture or ""), "left_out": found.left_out}
    lines = [f"{parsed.out}: written"]
    lines += [f"left out: {number} samples {why}" for why, number in found.left_out.items()]
    answer(parsed, values, lines)
    return 0


def _tell(parsed: argparse.Namespace, counts: dict[str, int]) -> None:
    """Where it lies, and how many of what."""
    named = {name or "nothing to say": number for name, number in counts.items()}
    told = ", ".join(f"{name} {number}" for name, number in named.items())
    answer(parsed, {"out": str(parsed.out), **named}, [f"{parsed.out}: {told}"])
