"""A chart as SVG inside the page: its text is text, its colours follow the page's scheme, its ids are its own."""

import io
import re
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context

from octoscale.report.items import Chart
from octoscale.report.palette import ALL, INK

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_STYLE = {
    "svg.fonttype": "none", "font.size": 10, "text.parse_math": False, "hatch.linewidth": 0.6,
    "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip
_PROPERTIES = {color.light: color.css for color in ALL} | {"#000000": INK.css}
_COLOR = re.compile(r"#[0-9a-f]{6}\b")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")

ElementTree.register_namespace("", _SVG)


def as_svg(chart: Chart, prefix: str) -> Markup:
    """Draw `chart`.

    Args:
        prefix: of the ids; no other chart of the page has it.
    """
    buffer = io.BytesIO()
    # Names of runs and data sets are text, whatever dollars and backslashes they hold.
    with rc_context({**_STYLE, "svg.hashsalt": prefix}):
        chart.draw().savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _keep_what_is_drawn(root)
    _own_ids(root, prefix)
    for element in root.iter():
        for name in ("style", "fill", "stroke"):
            if name in element.attrib:
                element.set(name, _COLOR.sub(_property, element.attrib[name]))
    # Its size is the page's to say.
    del root.attrib["width"], root.attrib["height"]
    root.attrib.update({"class": "chart", "role": "img", "aria-label": f"{chart.title}. {chart.alt()}"})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _property(match: re.Match[str]) -> str:
    return _PROPERTIES.get(match.group(), match.group())


def _keep_what_is_drawn(root: ElementTree.Element) -> None:
    """Without metadata, and without a style sheet that would hold for the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)


def _own_ids(root: ElementTree.Element, prefix: str) -> None:
    """Ids that are referred to get the prefix; the others go."""
    used = set()
    for element in root.iter():
        target = element.attrib.pop(f"{{{_XLINK}}}href", None)
        if target is not None:
            used.add(target[1:])
            element.set("href", f"#{prefix}-{target[1:]}")
        for name, value in element.attrib.items():
            used.update(_REFERENCE.findall(value))
            element.set(name, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))
    for element in root.iter():
        if "id" in element.attrib:
            name = element.attrib.pop("id")
            if name in used:
                element.set("id", f"{prefix}-{name}")
