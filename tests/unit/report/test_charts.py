"""Each chart draws the numbers that its table shows, and says them in words."""

import re
from xml.etree import ElementTree

import pytest

from octoscale.report.charts import Change, Changes, Lines, Series, Stack, shortened, windowed, windows
from octoscale.report.items import Chart, Key
from octoscale.report.palette import ALL, SERIES, ramp_color
from octoscale.report.svg import as_svg

RED, BLUE = SERIES[6], SERIES[0]


def lines(name: str = "loss", **settings: object) -> Lines:
    series = (
        Series(name, BLUE, (1.0, 2.0, 3.0), (0.5, 0.25, 0.125)),
        Series("other", RED, (2.0, 4.0), (10.0, 1 / 3), dashed=True),
    )
    return Lines("A title", "step", "value", series, **settings)  # type: ignore[arg-type]


STACK = Stack("Time", "s", ("first", "second"), (("embed", BLUE, (3.0, 1.0)), ("loss", RED, (1.0, 0.0))), "a note")
CHANGES = Changes(
    "Data sets", "accuracy",
    (Change("lfw", "7 px", BLUE, 0.6, 0.9), Change("lfw", "112 px", RED, 0.99, 0.98),
     Change("xqlfw", "7 px", BLUE, 0.4, 0.5)),
)  # fmt: skip


def test_lines_are_drawn_from_their_table() -> None:
    chart = lines()

    table = chart.table()

    assert table.columns == ("step", "loss", "other")
    assert table.rows == (("1", "0.5", ""), ("2", "0.25", "10"), ("3", "0.125", ""), ("4", "", "0.3333"))
    (axes,) = chart.draw().axes
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn == [[[1, 0.5], [2, 0.25], [3, 0.125]], [[2, 10], [4, 1 / 3]]]
    assert chart.legend() == (Key("loss", BLUE), Key("other", RED, dashed=True))


def test_fractions_are_in_percent_with_their_intervals() -> None:
    series = Series("after", BLUE, (7.0, 14.0), (0.8, 0.9), (0.7, 0.85), (0.9, 0.95))
    chart = Lines("A title", "px", "accuracy", (series,), percent=True, x_scale="log", ticks=(7.0, 14.0))

    assert chart.table().columns == ("px; accuracy in %", "after")
    assert chart.table().rows == (("7", "80.00 (70.00–90.00)"), ("14", "90.00 (85.00–95.00)"))
    (axes,) = chart.draw().axes
    (container,) = axes.containers
    (bars,) = container.lines[2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [pytest.approx([0.7, 0.9]), pytest.approx([0.85, 0.95])]
    assert chart.alt() == "Line chart of accuracy over px: after from 80.00 to 90.00 %."


def test_intervals_of_several_series_stand_side_by_side() -> None:
    series = tuple(Series(name, BLUE, (7.0,), (0.8,), (0.7,), (0.9,)) for name in ("before", "after"))
    (axes,) = Lines("A title", "px", "accuracy", series, x_scale="log").draw().axes

    first, second = (float(container.lines[0].get_xdata()[0]) for container in axes.containers)
    assert first < 7 < second


def test_the_diagonal_is_where_both_errors_are_equal() -> None:
    series = Series("7 px", BLUE, (0.25, 1.0), (0.5, 1.0))
    chart = Lines("ROC", "FAR", "TAR", (series,), x_scale="log", steps=True, diagonal="equal error rate")

    (axes,) = chart.draw().axes
    assert axes.lines[1].get_xydata().tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert chart.legend()[-1].name == "equal error rate"


def test_stacked_bars_are_drawn_from_their_table() -> None:
    assert STACK.table().columns == ("", "first, s", "second, s")
    assert STACK.table().rows == (
        ("embed", "3 (75.0 %)", "1 (100.0 %)"),
        ("loss", "1 (25.0 %)", "0 (0.0 %)"),
        ("total", "4", "1"),
    )
    (axes,) = STACK.draw().axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 3), (0, 1), (3, 1), (1, 0)]
    assert STACK.alt() == "Bars of s. first: embed 75.0 %, loss 25.0 %. second: embed 100.0 %, loss 0.0 %."


def test_changes_are_drawn_from_their_table() -> None:
    assert CHANGES.table().rows == (
        ("lfw", "7 px", "60.00", "90.00", "+30.00"),
        ("lfw", "112 px", "99.00", "98.00", "-1.00"),
        ("xqlfw", "7 px", "40.00", "50.00", "+10.00"),
    )
    (axes,) = CHANGES.draw().axes
    # From the lowest value on: what is common to both, then the change.
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert ends == [
        pytest.approx(end) for end in ((0.4, 0.6), (0.6, 0.9), (0.4, 0.98), (0.98, 0.99), (0.4, 0.4), (0.4, 0.5))
    ]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, False, False, True, False, False]
    assert [key.name for key in CHANGES.legend()] == ["7 px", "112 px"]


@pytest.mark.parametrize(("count", "most", "width"), [(1, 60, 1), (60, 60, 1), (61, 60, 2), (1000, 60, 17), (0, 60, 1)])
def test_there_are_at_most_so_many_windows(count: int, most: int, width: int) -> None:
    assert windows(count, most) == width
    assert -(-count // width) <= most


def test_a_window_is_the_mean_of_what_is_known_at_its_last_step() -> None:
    x, y = windowed([1, 2, 3, 4, 5], [1.0, 3.0, None, float("nan"), 7.0], 2)

    assert (x, y) == ((2.0, 5.0), (2.0, 7.0))


def test_windows_of_a_run_that_begins_later_are_the_same_windows() -> None:
    assert windowed([4, 5, 6], [1.0, 2.0, 3.0], 3) == ((6.0,), (2.0,))


def test_a_long_name_keeps_its_end() -> None:
    assert shortened("runs/a") == "runs/a"
    assert shortened("x" * 30 + "/the-end", 10) == "…x/the-end"


@pytest.mark.parametrize("chart", [lines(), STACK, CHANGES], ids=lambda chart: type(chart).__name__)
def test_as_svg_it_takes_its_colours_from_the_page(chart: Chart) -> None:
    svg = as_svg(chart, "c1")

    assert not re.search("#[0-9a-f]{6}", svg)
    names = set(re.findall(r"var\(--([a-z0-9-]+)\)", svg))
    assert BLUE.name in names
    assert names <= {color.name for color in ALL}
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == f"{chart.title}. {chart.alt()}"
    assert root.get("width") is None


def test_the_ids_of_two_charts_differ_and_are_found() -> None:
    first, second = (set(re.findall(r'\bid="([^"]+)"', as_svg(CHANGES, prefix))) for prefix in ("c1", "c2"))

    assert first
    assert not first & second
    svg = as_svg(CHANGES, "c1")
    referred = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
    assert referred == first


@pytest.mark.parametrize("name", ["$\\frac{$", "</svg><script>alert(1)</script>", "a & b", "ünï_\\code"])
def test_a_name_is_text_whatever_it_holds(name: str) -> None:
    chart = Stack("Time", "s", (name,), (("embed", BLUE, (3.0,)),))

    root = ElementTree.fromstring(as_svg(chart, "c1"))

    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert shortened(name) in texts
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_the_palette_can_be_told_apart() -> None:
    assert len({color.light for color in ALL}) == len({color.name for color in ALL}) == len(ALL)
    assert [ramp_color(place, 5).name for place in range(5)] == [f"ramp-{step}" for step in (0, 2, 4, 6, 8)]
    assert ramp_color(0, 1).name == "ramp-0"
