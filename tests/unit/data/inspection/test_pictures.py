"""The pictures: their size, and that they show what is there."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octoscale.data.inspection.pictures import draw_contact_sheet, draw_histogram
from octoscale.data.inspection.view import open_view
from octoscale.data.pack import pack


@pytest.fixture
def colours(tmp_path: Path) -> str:
    """Three identities of one colour each, one with a name that is a formula; packed."""
    for key, colour, count in (("$red$", (250, 0, 0), 2), ("green", (0, 250, 0), 9), ("x" * 60, (0, 0, 250), 3)):
        (tmp_path / "source" / key).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (32, 32), colour).save(tmp_path / f"source/{key}/{number}.png")
    pack(str(tmp_path / "source"), str(tmp_path / "packed"))
    return str(tmp_path / "packed")


def test_the_contact_sheet_has_a_row_per_identity(colours: str) -> None:
    with open_view(colours) as view:
        picture = np.asarray(Image.open(io.BytesIO(draw_contact_sheet(view))).convert("RGB")).astype(int)
        again = draw_contact_sheet(view)
        assert again == draw_contact_sheet(view)

    # 120 dots per inch: a head of 0.6, rows and images of 0.9, names of 2.2.
    assert picture.shape[:2] == (round(120 * (0.6 + 3 * 0.9 + 0.05)), round(120 * (2.2 + 8 * 0.9 + 0.1)))
    for row, (channel, count) in enumerate(((0, 2), (1, 8), (2, 3))):
        y = round(120 * (0.6 + 0.9 * row + 0.45))
        shown = [
            column for column in range(8)
            if (np.argsort(picture[y, round(120 * (2.2 + 0.9 * column + 0.4))])[-1] == channel)
            and np.ptp(picture[y, round(120 * (2.2 + 0.9 * column + 0.4))]) > 200
        ]  # fmt: skip
        assert shown == list(range(count))


def test_the_histogram_is_a_picture(colours: str) -> None:
    with open_view(colours) as view:
        assert Image.open(io.BytesIO(draw_histogram(view.index))).size == (960, 528)
