"""The report in a real browser: light, dark, on a phone, and on paper."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from octoscale.config import parse_config
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.feed import open_data
from octoscale.noise.report import write_ledger
from octoscale.noise.survey import survey
from octoscale.report.page import write_report
from octoscale.train import train
from octoscale.trained import load_trained
from tests.conftest import small_run_values
from tests.integration.browser import Browser, started

CHARTS = "[...document.querySelectorAll('svg.chart')].map(c => c.getBoundingClientRect())"
# One pixel for rounding.
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth - 1"
OUTSIDE = (
    "[...document.querySelectorAll('svg.chart, img, figcaption, .legend li, .missing, .tile, summary')]"
    ".filter(e => e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1)"
    ".map(e => e.outerHTML.slice(0, 80))"
)
HIDDEN_ROWS = "[...document.querySelectorAll('tr')].filter(row => !row.checkVisibility()).length"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: a folder of the user's, to look at them, or a temporary one."""
    folder = Path(os.environ.get("OCTOSCALE_SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(packed_faces: Path, drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that was trained, evaluated and searched for mislabels."""
    folder, verify = tmp_path_factory.mktemp("report"), drawn_faces / "verify"
    evaluate = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 14, 32], "every_steps": 2}
    values = small_run_values(packed_faces, folder / "run", evaluate=evaluate)
    train(parse_config(values, source="of the test"), World(), quiet=True)
    trained = load_trained(str(folder / "run"))
    data = open_data(trained.config)
    found = survey(trained.network, data.index, data.reader, device=World().device, epochs=2, alpha=1.0)
    write_ledger(found, data.index, data.reader, Store(str(folder / "run/noise")), top=1)
    write_report([str(folder / "run")], str(folder / "report.html"))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Browser]:
    with started() as tab:
        tab.show(width=1280)
        tab.open(page)
        yield tab


def test_the_page_opens_without_an_error_and_asks_nobody(browser: Browser, page: Path) -> None:
    assert browser.value("document.title") == "run · octoscale report"
    assert browser.errors() == []
    outside = [url for url in browser.requests() if not url.startswith(("file:", "data:"))]
    assert outside == []
    assert [url for url in browser.requests() if url.startswith("file:")] == [page.as_uri()]
    assert page.stat().st_size < 5_000_000


def test_every_chart_and_picture_is_there(browser: Browser) -> None:
    charts = browser.value(f"{CHARTS}.map(c => [c.width, c.height])")
    # Accuracy and ROC in two modes, accuracy over the steps, eight of the training, mislabels, phases, wall time.
    assert len(charts) == 2 + 1 + 2 + 8 + 1 + 2
    assert all(width > 300 and height > 50 for width, height in charts)
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    # One figure 1, six octuplets of eight, and three images for each pair of the ledger.
    assert browser.value("document.images.length") > 1 + 6 * 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_readers_colours(browser: Browser, pictures: Path, scheme: str) -> None:
    browser.show(width=1280, scheme=scheme)
    browser.screenshot(pictures / f"{scheme}.png")

    pixels = Image.open(pictures / f"{scheme}.png").convert("L")
    assert (pixels.getpixel((2, 2)) > 200) == (scheme == "light")
    # The charts' text stands out from their ground: four and a half to one, the least that WCAG calls readable.
    ink = browser.value("getComputedStyle(document.querySelector('svg.chart text')).fill")
    ground = browser.value("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert contrast(ink, ground) > 4.5


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_it_never_scrolls_sideways(browser: Browser, pictures: Path, width: int) -> None:
    browser.show(width=width, height=844)
    browser.screenshot(pictures / f"{width}.png")

    assert browser.value(TOO_WIDE) <= 0
    assert browser.value(OUTSIDE) == []
    # Nor with all numbers unfolded.
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.value(TOO_WIDE) <= 0
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = false })")


def test_text_in_charts_can_be_read_on_a_phone(browser: Browser) -> None:
    browser.show(width=390, height=844)

    heights = browser.value(
        "[...document.querySelectorAll('svg.chart text')].map(t => t.getBoundingClientRect().height)"
    )
    assert min(heights) > 9


def test_on_paper_all_numbers_are_there(browser: Browser, pictures: Path) -> None:
    browser.show(width=1280)
    assert browser.value(HIDDEN_ROWS) > 100
    browser.show(width=794, medium="print")
    assert browser.value(HIDDEN_ROWS) == 0
    browser.screenshot(pictures / "print.png")

    browser.show(width=1280)
    browser.pdf(pictures / "report.pdf")

    assert (pictures / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_a_run_in_an_object_store_is_reported_into_one(page: Path, s3_url: str) -> None:
    local, remote = Store(str(page.parent)), Store(s3_url)
    for name in local.list("run"):
        remote.upload(local.local_path(name), name)

    write_report([f"{s3_url}/run"], f"{s3_url}/reports/page.html")

    written = remote.read("reports/page.html").decode()
    assert written.count("<svg") == page.read_text().count("<svg")
    assert written.count("data:image/jpeg") == page.read_text().count("data:image/jpeg")


def contrast(first: str, second: str) -> float:
    """The ratio of the luminances of two ``rgb(…)``, by WCAG."""
    light, dark = sorted((luminance(color) for color in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    channels = [int(value) / 255 for value in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
