"""The most probable mislabels as pictures: anchor, its own positive, and the negative that is too near."""

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from octoscale.data.index import Index
from octoscale.data.reader import ImageReader
from octoscale.noise.ledger import SuspectPair

_INK, _SOFT, _ALARM, _SAME = "#22262b", "#6b7280", "#d1242f", "#8250df"
_COLORS = {"misfiled image": _ALARM, "same person": _SAME, "look-alike": _SOFT}
_COLUMNS = 3
_NAME_LENGTH = 24


def image_name(index: Index, sample_id: int) -> str:
    """What the source called the image, such as IDENTITY/FILE.jpg."""
    return index.sample_name(sample_id)


def draw_pairs(pairs: tuple[SuspectPair, ...], index: Index, reader: ImageReader) -> bytes:
    """A PNG with one group of three images per pair; the misfiled image has a red frame.

    Args:
        pairs: in the order of the ledger.
    """
    rows = -(-len(pairs) // _COLUMNS)
    columns = max(1, min(len(pairs), _COLUMNS))
    # In inches: three images of 1.3, two gaps that carry the distances, and room for names.
    figure = Figure(figsize=(5.4 * columns, 2.2 * rows + 0.8))
    axes = figure.add_axes((0, 0, 1, 1))
    for number, pair in enumerate(pairs):
        row, column = divmod(number, _COLUMNS)
        _draw_group(axes, number + 1, pair, (5.4 * column + 0.25, 2.2 * (rows - 1 - row) + 0.5), index, reader)
    top = 2.2 * rows + 0.58
    axes.text(0.25, top, "Probable mislabels", fontsize=15, fontweight="bold", color=_INK, va="center")
    legend = "same label · anchor · other label, too near; red frame: the misfiled image"
    axes.text(0.25, top - 0.27, legend, fontsize=9.5, color=_SOFT, va="center")
    axes.set(xlim=(0, 5.4 * columns), ylim=(0, 2.2 * rows + 0.8), aspect="equal")
    axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_group(
    axes: Any, rank: int, pair: SuspectPair, corner: tuple[float, float], index: Index, reader: ImageReader
) -> None:
    x, y = corner
    example, color = pair.example, _COLORS[pair.kind]
    axes.text(x, y + 1.41, f"{rank}  {pair.kind}", fontsize=9.5, fontweight="bold", color=color, va="center")
    axes.text(
        x + 4.9, y + 1.41, f"evidence {pair.evidence:.2f}, {pair.triplets} triplets", fontsize=8.5, color=_SOFT,
        va="center", ha="right",
    )  # fmt: skip
    shown = (example.positive, example.anchor, example.negative)
    for sample_id, left in zip(shown, (x, x + 1.8, x + 3.6), strict=True):
        pixels = np.asarray(reader[sample_id].permute(1, 2, 0))
        axes.imshow(pixels, extent=(left, left + 1.3, y, y + 1.3), zorder=2)
        culprit = sample_id == pair.culprit
        axes.add_patch(
            Rectangle(
                (left, y),
                1.3,
                1.3,
                fill=False,
                zorder=3,
                edgecolor=_ALARM if culprit else "#c7ccd3",
                linewidth=3 if culprit else 1,
            )
        )
        axes.text(left + 0.65, y - 0.11, _short(image_name(index, sample_id)), fontsize=7.5, color=_INK, ha="center",
                  va="center")  # fmt: skip
    for distance, label, middle in (
        (example.positive_distance, "a,p", x + 1.55), (example.negative_distance, "a,n", x + 3.35),
    ):  # fmt: skip
        axes.text(middle, y + 0.76, f"d({label})", fontsize=7.5, color=_SOFT, ha="center", va="center")
        axes.text(middle, y + 0.58, f"{distance:.2f}", fontsize=10, color=_INK, ha="center", va="center")


def _short(name: str) -> str:
    """The end of a long name tells images apart, its beginning people."""
    if len(name) <= _NAME_LENGTH:
        return name
    tail = name[-_NAME_LENGTH // 2 + 1 :]
    return f"{name[: _NAME_LENGTH - len(tail) - 1]}…{tail}"
