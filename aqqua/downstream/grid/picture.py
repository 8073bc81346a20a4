"""A map as a picture: abundance, carbon, diversity and how many samples stand behind each cell.

Nothing is fetched: coastlines are drawn only where cartopy has them already; a graticule is always there.
Test: tests/downstream/grid/test_grid_picture.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aqqua.downstream.grid.cells import Gridded
from aqqua.downstream.publish.packages import needed
from aqqua.store.new_file import new_file

WHO = "grid picture"
INCHES = (13.0, 8.0)
DPI = 120
MARGIN_DEGREES = 1.5  # around what is shown
LEAST_SPAN = 10.0  # largest by least number of a logarithmic scale: a decade
_LAND = "ne_110m_coastline.shp"


@dataclass(frozen=True)
class Panel:
    """One map of the picture."""

    title: str
    unit: str
    values_G: np.ndarray
    colours: str
    logarithmic: bool


def draw(found: Gridded, out: Path, title: str = "") -> None:
    """Write a PNG of a map of one time and one layer.

    Args:
        found: of a grid without months, years and layers.
        out: new file, .png.
        title: above all panels.

    Raises:
        ValueError: there are several times or layers, or `out` exists.
        RuntimeError: cartopy or matplotlib is missing.
    """
    several = [axis.name for axis in found.axes if axis.name in ("time", "depth") and len(axis) > 1]
    if several:
        raise ValueError(
            f"{WHO}: a picture must be of one time and layer, got several in {several}; grid without them"
        )
    crs = needed("cartopy.crs", WHO)
    figure = needed("matplotlib.figure", WHO).Figure(INCHES, dpi=DPI, layout="constrained")
    chosen = panels(found)
    rows = (len(chosen) + 1) // 2
    for number, panel in enumerate(chosen, start=1):
        axes = figure.add_subplot(rows, 2, number, projection=crs.PlateCarree())
        _draw_panel(figure, axes, found, panel, crs)
    if title:
        figure.suptitle(_plain(title))
    with new_file(out, WHO) as partial:
        figure.savefig(partial, format="png", metadata={"Software": "aqqua"})


def panels(found: Gridded) -> list[Panel]:
    """What is shown."""
    chosen = [Panel("Abundance of living classes", "m$^{-3}$", found.all_abundance.mean, "viridis", True)]
    if found.has_carbon:
        unit = "mg m$^{-3}$"
        chosen.append(Panel("Carbon of living classes", unit, found.all_carbon.mean * 1e6, "magma", True))
    chosen.append(Panel("Shannon index", "nats", found.shannon_G, "cividis", False))
    chosen.append(Panel("Samples", "number", found.samples_G.astype(float), "YlOrBr", False))
    return chosen


def coastline() -> Path | None:
    """The coastline that cartopy has on this machine; None without. Nothing is fetched."""
    config: dict[str, Any] = needed("cartopy", WHO).config
    places = (config["pre_existing_data_dir"], config["data_dir"])
    found = (Path(place) / "shapefiles" / "natural_earth" / "physical" / _LAND for place in places)
    return next((path for path in found if path.is_file()), None)


def _draw_panel(figure: Any, axes: Any, found: Gridded, panel: Panel, crs: Any) -> None:
    from matplotlib.colors import Normalize

    lat, lon = found.axes[-2], found.axes[-1]
    values = found.spread(panel.values_G).reshape(len(lat), len(lon))
    known = values[np.isfinite(values) & ((values > 0) | (not panel.logarithmic))]
    norm = colour_scale(float(known.min()), float(known.max()), panel.logarithmic) if len(known) else None
    _frame(axes, found, crs)
    shown = np.ma.masked_invalid(np.where(values > 0, values, np.nan) if panel.logarithmic else values)
    mesh = axes.pcolormesh(
        lon.edges_C1, lat.edges_C1, shown, cmap=panel.colours, norm=norm, transform=crs.PlateCarree()
    )  # fmt: skip
    zero = np.ma.masked_where(values != 0, values)
    if panel.logarithmic and zero.count():  # looked, and nothing found: not the same as not looked
        grey = {"cmap": "Greys", "norm": Normalize(-1, 3), "transform": crs.PlateCarree()}
        axes.pcolormesh(lon.edges_C1, lat.edges_C1, zero, **grey)
    figure.colorbar(mesh, ax=axes, shrink=0.8, label=panel.unit)
    note = " (grey: looked, none found)" if panel.logarithmic and zero.count() else ""
    axes.set_title(panel.title + note)


def colour_scale(low: float, high: float, logarithmic: bool) -> Any:
    """From numbers to colours; logarithmic only over LEAST_SPAN or more: over less, ticks overlap.

    Args:
        low: least number that is shown; above 0 if logarithmic.
        high: largest.
    """
    from matplotlib.colors import LogNorm, Normalize

    if logarithmic and high >= LEAST_SPAN * low:
        return LogNorm(low, high)
    return Normalize(min(low, 0), high)


def _frame(axes: Any, found: Gridded, crs: Any) -> None:
    lat, lon = found.axes[-2], found.axes[-1]
    held = np.isfinite(found.spread(found.samples_G.astype(float))).reshape(len(lat), len(lon))
    rows, columns = np.flatnonzero(held.any(axis=1)), np.flatnonzero(held.any(axis=0))
    south, north = lat.edges_C1[rows[0]], lat.edges_C1[rows[-1] + 1]
    west, east = lon.edges_C1[columns[0]], lon.edges_C1[columns[-1] + 1]
    pad = max(MARGIN_DEGREES, 0.1 * max(north - south, east - west))
    extent = (max(west - pad, -180), min(east + pad, 180), max(south - pad, -90), min(north + pad, 90))
    axes.set_extent(extent, crs=crs.PlateCarree())
    lines = axes.gridlines(draw_labels=True, linewidth=0.5, color="0.7", linestyle=":", zorder=0)
    lines.top_labels = lines.right_labels = False
    path = coastline()
    if path is not None:
        reader = needed("cartopy.io.shapereader", WHO).Reader(path)
        axes.add_geometries(reader.geometries(), crs.PlateCarree(), facecolor="none", edgecolor="0.3")


def _plain(text: str) -> str:
    """A text without the signs that matplotlib reads as mathematics."""
    return text.replace("$", "\\$")
