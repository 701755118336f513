"""How the pictures and tables of evaluations look."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from octoscale.data.temporary import written_whole

# Okabe and Ito's colours, which the colour-blind can tell apart; `before` also differs in its dashes.
BEFORE, AFTER = "#7a7f87", "#0072b2"
DASHES = (0, (4, 2))
INK, GRID = "#22262b", "#e3e6ea"


def shades(count: int) -> list[Any]:
    """Colours from dark to bright that keep their order for the colour-blind and in grey."""
    return list(colormaps["plasma"](np.linspace(0.05, 0.82, count)))


def size_text(resolution: int | None) -> str:
    """How a resolution of images is called; None: they are as they are."""
    return "as they are" if resolution is None else f"{resolution} px"


def tidy(axes: Any, *, title: str, subtitle: str) -> None:
    """Title and subtitle above the panel, a light grid, no frame."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=22)
    axes.text(0, 1.025, subtitle, transform=axes.transAxes, fontsize=9.5, color=BEFORE)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def save(figure: Figure, path: str | Path, *, dpi: int = 160) -> None:
    """Write a figure as a PNG.

    Raises:
        OctoscaleError: it cannot be written; what was there stays.
    """
    with written_whole(Path(path)) as file:
        figure.savefig(file, format="png", dpi=dpi)
