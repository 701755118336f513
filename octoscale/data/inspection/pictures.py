"""Pictures of a data set: images per identity, and a contact sheet."""

import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from octoscale.data.index import Index
from octoscale.data.inspection.view import View

_INK, _SOFT, _BAR = "#22262b", "#6b7280", "#3b6fb6"
_PEOPLE, _IMAGES_EACH = 12, 8
_CELL_INCHES, _NAME_INCHES, _HEAD_INCHES = 0.9, 2.2, 0.6
_NAME_LENGTH = 26


def draw_histogram(index: Index) -> bytes:
    """A PNG: how many identities have how many images, both logarithmic."""
    counts = index.images_per_identity
    low, high = int(counts.min()), int(counts.max())
    # Whole numbers first, then about ten bins per decade.
    edges = np.unique(np.round(np.geomspace(low, high + 1, max(2, int(10 * np.log10((high + 1) / low)) + 2))))
    edges = edges - 0.5
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(counts, bins=edges.tolist(), color=_BAR, edgecolor="white", linewidth=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    # A single person is seen.
    axes.set_ylim(bottom=0.5)
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low <= tick <= high]
    axes.set_xticks(ticks or [low])
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    median = float(np.median(counts))
    axes.axvline(median, color=_INK, linewidth=1, linestyle="--")
    axes.annotate(
        f"median {median:g}", (median, 1), xycoords=("data", "axes fraction"), xytext=(5, -14),
        textcoords="offset points", color=_INK, fontsize=9.5,
    )  # fmt: skip
    axes.set_xlabel("images of one identity", color=_INK)
    axes.set_ylabel("identities", color=_INK)
    axes.set_title(f"{len(index):,} images of {index.identity_count:,} identities", loc="left", fontsize=12, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def draw_contact_sheet(view: View, *, seed: int = 0) -> bytes:
    """A PNG: random identities, one a row, and random images of each."""
    index = view.index
    rng = np.random.default_rng(seed)
    people = np.sort(rng.choice(index.identity_count, min(_PEOPLE, index.identity_count), replace=False)).tolist()
    width = _NAME_INCHES + _IMAGES_EACH * _CELL_INCHES + 0.1
    height = _HEAD_INCHES + len(people) * _CELL_INCHES + 0.05
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    title = f"{len(people)} of {index.identity_count:,} identities, at most {_IMAGES_EACH} images of each"
    axes.text(0.15, height - _HEAD_INCHES / 2, title, fontsize=12, color=_INK, va="center")
    for row, identity in enumerate(people):
        first, end = int(index.identity_offsets[identity]), int(index.identity_offsets[identity + 1])
        bottom = height - _HEAD_INCHES - (row + 1) * _CELL_INCHES
        middle = bottom + _CELL_INCHES / 2
        name = index.identity_keys[identity]
        # Names are text: a dollar sign begins no formula.
        short = name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
        axes.text(0.15, middle + 0.1, short, fontsize=8.5, color=_INK, va="center", parse_math=False)
        axes.text(0.15, middle - 0.12, f"{end - first:,} images", fontsize=7.5, color=_SOFT, va="center")
        chosen = np.sort(rng.choice(end - first, min(_IMAGES_EACH, end - first), replace=False)) + first
        for column, sample_id in enumerate(chosen.tolist()):
            left = _NAME_INCHES + column * _CELL_INCHES
            extent = (left, left + _CELL_INCHES - 0.04, bottom, bottom + _CELL_INCHES - 0.04)
            axes.imshow(view.decode(sample_id), extent=extent)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
