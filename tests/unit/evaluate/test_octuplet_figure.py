"""The picture of an octuplet."""

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from octoscale.evaluate.octuplet_figure import ShownOctuplet, _octuplet, draw_octuplet, octuplet_jpeg

NEGATIVES = {"hhh": 2, "hll": 3, "lhh": 4, "lll": 5}


def flat(first_level: int) -> torch.Tensor:
    """Six images, each of one level of red of its own."""
    images = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = first_level + torch.arange(6, dtype=torch.uint8)[:, None, None]
    return images


def shown(distances: dict[str, tuple[float, float]]) -> ShownOctuplet:
    return ShownOctuplet(flat(10), flat(100), 0, 1, NEGATIVES, distances)


@pytest.mark.parametrize("scale", [0.012, 1.0, 9.99, 99.4, 1234.5])
def test_no_text_overlaps_another_or_leaves_its_box(scale: float) -> None:
    distances = dict.fromkeys(NEGATIVES, (scale, 1.01 * scale))
    figure = _octuplet(shown(distances))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]

    extents = {text.get_text(): text.get_window_extent(renderer) for text in axes.texts}
    for (left, one), (right, other) in combinations(extents.items(), 2):
        assert not one.overlaps(other), (left, right)
    boxes = [patch.get_window_extent(renderer) for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    for text, extent in extents.items():
        if text[:3] in NEGATIVES:
            assert any(box.x0 < extent.x0 and extent.x1 < box.x1 and box.y0 < extent.y0 < box.y1 for box in boxes)


def test_every_line_carries_its_distance() -> None:
    distances = {"hhh": (14.32, 22.18), "hll": (0.1234, 20.0), "lhh": (9.87, 300.2), "lll": (1.0, 99.96)}

    figure = _octuplet(shown(distances))

    texts = {text.get_text() for text in figure.axes[0].texts}
    assert texts >= {
        "hhh  14.3", "hhh  22.2", "hll  0.123", "hll  20.0", "lhh  9.87", "lhh  300", "lll  1.00", "lll  100.0",
    }  # fmt: skip


def test_the_eight_images_are_high_and_low_where_the_terms_say() -> None:
    distances = dict.fromkeys(NEGATIVES, (1.0, 2.0))

    figure = _octuplet(shown(distances))

    seen = {int(image.get_array()[0, 0, 0]): image.get_extent()[0] for image in figure.axes[0].images}
    # Rows 0, 1 and each term's negative: of hhh and lhh in high, of hll and lll in low resolution.
    assert seen.keys() == {10, 11, 12, 14, 100, 101, 103, 105}
    assert max(left for level, left in seen.items() if level < 100) < min(
        left for level, left in seen.items() if level >= 100
    )


def test_the_picture_is_written(tmp_path: Path) -> None:
    draw_octuplet(shown(dict.fromkeys(NEGATIVES, (1.0, 2.0))), tmp_path / "octuplet.png")

    assert np.asarray(Image.open(tmp_path / "octuplet.png")).shape[:2] == (1455, 1800)


def test_for_a_page_it_is_a_jpeg_of_moderate_size() -> None:
    jpeg = octuplet_jpeg(shown(dict.fromkeys(NEGATIVES, (1.0, 2.0))))

    picture = Image.open(io.BytesIO(jpeg))
    assert picture.format == "JPEG"
    assert picture.width == 1320
    assert len(jpeg) < 200_000
