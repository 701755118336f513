"""An octuplet as the paper's figure 1 shows it: eight images and four triplets."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from octoscale.evaluate.style import save


class _Term(NamedTuple):
    anchor: str
    positive: str
    negative: str
    color: str


# Okabe and Ito's colours, darkened where thin lines on white need it.
_TERMS = {
    "hhh": _Term("A", "P", "N1", "#0072b2"),
    "hll": _Term("A", "Pl", "N2", "#c75200"),
    "lhh": _Term("Al", "P", "N3", "#008061"),
    "lll": _Term("Al", "Pl", "N4", "#b4418e"),
}
_LABELS = {
    "A": "$A$", "P": "$P$", "N1": "$N_1^{*}$", "N3": "$N_3^{*}$",
    "Al": r"$A_{\mathrm{lr}}$", "Pl": r"$P_{\mathrm{lr}}$",
    "N2": r"$N_{2\,\mathrm{lr}}^{*}$", "N4": r"$N_{4\,\mathrm{lr}}^{*}$",
}  # fmt: skip
# Centres of the images, in image widths. A, P and their low-resolution selves are the corners of a
# square whose sides are the four positive lines; each negative hangs outside: no two lines cross.
_CENTRES = {
    "N3": (2.55, 5.85), "P": (2.55, 3.9), "A": (2.55, 1.95), "N1": (0.0, 1.95),
    "Al": (5.1, 3.9), "Pl": (5.1, 1.95), "N2": (5.1, 0.0), "N4": (7.65, 3.9),
}  # fmt: skip
_LABEL = np.array((0.88, 0.26))  # width and height, in image widths
_INK = "#22262b"
_SOFT = "#6b7280"
# Short enough that an arrow between neighbours has two.
_DASHES = (0, (1.6, 0.9))


@dataclass(frozen=True)
class ShownOctuplet:
    """An anchor with its positive and the nearest stranger of each term.

    Attributes:
        high, low: uint8 [B, 3, H, W], RGB, of the batch it was mined in; row i of both is the same image.
        anchor, positive: rows of one identity.
        negatives: by term (hhh, hll, lhh, lll), the row of its negative, in `high` or `low` as the term says.
        distances: by term, d(anchor, positive) and d(anchor, negative).
    """

    high: Tensor
    low: Tensor
    anchor: int
    positive: int
    negatives: Mapping[str, int]
    distances: Mapping[str, tuple[float, float]]


def draw_octuplet(shown: ShownOctuplet, path: str | Path) -> None:
    """Draw one octuplet as a PNG.

    High-resolution images on the left, low-resolution ones on the right. A solid line pulls an anchor and its
    positive together, a dashed one pushes it from its nearest negative; each carries its distance.

    Args:
        path: a local file to write.
    """
    save(_octuplet(shown), path, dpi=150)


def octuplet_jpeg(shown: ShownOctuplet) -> bytes:
    """The picture of `draw_octuplet` as a JPEG, of a size for a page."""
    buffer = io.BytesIO()
    _octuplet(shown).savefig(buffer, format="jpeg", dpi=110, pil_kwargs={"quality": 85})
    return buffer.getvalue()


def _octuplet(shown: ShownOctuplet) -> Figure:
    high, low, negatives = shown.high, shown.low, shown.negatives
    figure = Figure(figsize=(12, 9.7))
    axes = figure.add_axes((0, 0, 1, 1))
    _panel(axes, (-0.75, 1.2), "#eef4fa", "high resolution", (-0.5, 6.3), "left")
    _panel(axes, (4.25, -0.75), "#faf3ec", "low resolution", (8.15, -0.45), "right")
    pictures = {
        "A": high[shown.anchor], "P": high[shown.positive], "N1": high[negatives["hhh"]], "N3": high[negatives["lhh"]],
        "Al": low[shown.anchor], "Pl": low[shown.positive], "N2": low[negatives["hll"]], "N4": low[negatives["lll"]],
    }  # fmt: skip
    for name, term in _TERMS.items():
        to_positive, to_negative = shown.distances[name]
        _line(axes, term.anchor, term.positive, term.color, f"{name}  {_number(to_positive)}", pulls=True)
        _line(axes, term.anchor, term.negative, term.color, f"{name}  {_number(to_negative)}", pulls=False)
    for name, picture in pictures.items():
        _face(axes, name, picture)
    _legend(axes)
    axes.set(xlim=(-0.9, 8.55), ylim=(-0.9, 6.75), aspect="equal")
    axes.set_axis_off()
    return figure


def _panel(axes: Any, corner: tuple[float, float], color: str, title: str, at: tuple[float, float], side: str) -> None:
    box = "round,pad=0,rounding_size=0.18"
    axes.add_patch(FancyBboxPatch(corner, 4.15, 5.4, boxstyle=box, facecolor=color, edgecolor="none", zorder=0))
    axes.text(*at, title, ha=side, va="center", fontsize=15, fontweight="bold", color=_SOFT)


def _face(axes: Any, name: str, picture: Tensor) -> None:
    """One image with rounded corners and its name; a person's own images have a dark frame."""
    x, y = _CENTRES[name]
    frame = FancyBboxPatch(
        (x - 0.5, y - 0.5), 1, 1, boxstyle="round,pad=0,rounding_size=0.09", facecolor="white",
        edgecolor=_INK if name[0] in "AP" else "#b8bec7", linewidth=2.6, zorder=4,
    )  # fmt: skip
    axes.add_patch(frame)
    pixels = np.asarray(picture.permute(1, 2, 0).cpu())
    image = axes.imshow(pixels, extent=(x - 0.5, x + 0.5, y - 0.5, y + 0.5), zorder=3, interpolation="nearest")
    image.set_clip_path(frame)
    frame.set_facecolor("none")
    axes.text(
        x - 0.43, y - 0.42, _LABELS[name], ha="left", va="bottom", fontsize=15, color=_INK, zorder=5,
        bbox={"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": "none", "alpha": 0.9},
    )  # fmt: skip


def _number(distance: float) -> str:
    """About three significant digits."""
    return f"{distance:.{3 - np.searchsorted((1, 10, 100), distance, side='right')}f}"


def _line(axes: Any, start: str, end: str, color: str, text: str, *, pulls: bool) -> None:
    """Two arrows between images: to the middle they pull, from the middle they push."""
    a, b = np.array(_CENTRES[start]), np.array(_CENTRES[end])
    middle, direction = (a + b) / 2, (b - a) / np.abs(b - a).max()
    # From the edge of an image (half a width away) to the edge of the label.
    gap = np.min(_LABEL / 2 / np.abs(direction).clip(1e-9)) + 0.05
    for image, towards in ((a, 1), (b, -1)):
        ends = image + towards * 0.56 * direction, middle - towards * gap * direction
        tail, head = ends if pulls else ends[::-1]
        _arrow(axes, tail, head, color, "solid" if pulls else _DASHES)
    box = FancyBboxPatch(
        middle - _LABEL / 2, _LABEL[0], _LABEL[1], boxstyle="round,pad=0,rounding_size=0.06", facecolor="white",
        edgecolor=color, linewidth=1.2, zorder=5,
    )  # fmt: skip
    axes.add_patch(box)
    axes.text(*middle, text, ha="center", va="center_baseline", fontsize=11.5, fontweight="bold", color=color, zorder=6)


def _arrow(axes: Any, tail: Any, head: Any, color: str, linestyle: Any) -> None:
    """A shaft in the line style, and a head, which dashes would fray."""
    length = np.linalg.norm(head - tail)
    base, point = (head + (tail - head) * back / length for back in (0.14, 0.01))
    axes.plot(*zip(tail, base, strict=True), color=color, linewidth=2.6, linestyle=linestyle, zorder=2)
    axes.add_patch(
        FancyArrowPatch(
            point, head, arrowstyle="-|>", mutation_scale=20, shrinkA=0, shrinkB=0, color=color, linewidth=2.6, zorder=2
        )
    )


def _legend(axes: Any) -> None:
    axes.text(4.25, 6.3, "One octuplet, four triplets", fontsize=17, fontweight="bold", color=_INK, va="center")
    axes.text(
        4.25, 6.0, "A term names the resolutions of anchor, positive, negative;\nhll: high, low, low. "
        "Numbers are distances.", fontsize=11.5, color=_SOFT, va="top", linespacing=1.5,
    )  # fmt: skip
    styles = {"anchor and positive: pulled together": "solid", "nearest other person: pushed away": _DASHES}
    lines = [Line2D([], [], color=_INK, linewidth=2.6, linestyle=style, label=text) for text, style in styles.items()]
    axes.legend(
        handles=lines, loc="lower left", bbox_to_anchor=(-0.6, -0.45), bbox_transform=axes.transData, borderpad=0,
        borderaxespad=0, frameon=False, fontsize=12.5, labelcolor=_INK, handlelength=2.8, labelspacing=0.9,
    )  # fmt: skip
