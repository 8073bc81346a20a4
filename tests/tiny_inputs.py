"""Inputs that several tests of the command line make for themselves."""

from pathlib import Path

import yaml


def write_config(folder: Path, tiny_run: Path, dataset: Path | str) -> Path:
    """The config of the tiny run for another run, `folder`/run, of 20 images."""
    values = yaml.safe_load((tiny_run / "config.yaml").read_text())
    values["run"], values["data"]["path"], values["train"]["images"] = str(folder / "run"), str(dataset), 20
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    return folder / "tiny.yaml"


def spoil(dataset: Path) -> None:
    """Change bytes in the middle of the images."""
    part = dataset / "part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    part.write_bytes(data)
