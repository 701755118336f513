"""The colours of the page, each in light and in dark. Charts are drawn in the light ones; see `svg`."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

RAMP_STEPS = 9
SERIES_COUNT = 8


@dataclass(frozen=True)
class Color:
    """A custom property of the page: its name, and its value in each scheme."""

    name: str
    light: str
    dark: str

    @property
    def css(self) -> str:
        return f"var(--{self.name})"


def _ramp() -> tuple[Color, ...]:
    """Colours that keep their order for the colour-blind and in grey."""
    shades = [colormaps["plasma"](np.linspace(*ends, RAMP_STEPS)) for ends in ((0.05, 0.78), (0.38, 0.97))]
    return tuple(
        Color(f"ramp-{step}", to_hex(light), to_hex(dark))
        for step, (light, dark) in enumerate(zip(*shades, strict=True))
    )


INK = Color("ink", "#22262b", "#e6e8eb")
SOFT = Color("soft", "#616874", "#a2aab5")
GRID = Color("grid", "#e3e6ea", "#30363f")
BEFORE = Color("before", "#7a7f87", "#989fa8")
# Okabe and Ito's, darkened where thin lines on white need it, and more of their kind.
SERIES = (
    Color("series-1", "#0072b2", "#4fa9e2"),
    Color("series-2", "#c75200", "#f08a42"),
    Color("series-3", "#008061", "#2fbf96"),
    Color("series-4", "#b4418e", "#e284c4"),
    Color("series-5", "#8a6d00", "#d9b62b"),
    Color("series-6", "#5b4bd6", "#a69cff"),
    Color("series-7", "#a3262a", "#f37e7c"),
    Color("series-8", "#3f7f93", "#7fc4d8"),
)
RAMP = _ramp()
PAGE = Color("page", "#ffffff", "#14171b")
PANEL = Color("panel", "#f5f7f9", "#1d2127")
ALARM = Color("alarm", "#d1242f", "#ff7b72")

ALL = (INK, SOFT, GRID, BEFORE, *SERIES, *RAMP, PAGE, PANEL, ALARM)


def series_color(number: int) -> Color:
    """The colour of the series of this number, from 0."""
    return SERIES[number % SERIES_COUNT]


def ramp_color(number: int, count: int) -> Color:
    """The colour of one of `count` that have an order, from dark to bright."""
    return RAMP[round(number * (RAMP_STEPS - 1) / max(1, count - 1))]
