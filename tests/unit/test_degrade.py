"""Degradation against torch's two interpolations and against TensorFlow's values."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from octoscale.degrade import degrade
from octoscale.errors import OctoscaleError

# tf.image.resize(method="bicubic", antialias=True) twice, clipped and cast to uint8, TensorFlow 2.21, of the
# 16 × 16 image `pattern()` at 4 and 7 px.
TENSORFLOW = {
    4: [
        [113, 114, 118, 124, 131, 138, 140, 138, 135, 132, 132, 134, 138, 141, 142, 143],
        [114, 115, 118, 124, 131, 137, 140, 138, 134, 132, 132, 134, 138, 140, 142, 142],
        [116, 117, 120, 125, 131, 136, 138, 137, 134, 132, 132, 135, 137, 139, 140, 141],
        [120, 121, 123, 126, 130, 134, 135, 135, 134, 133, 133, 135, 137, 138, 139, 139],
        [125, 126, 126, 128, 129, 131, 132, 133, 133, 134, 135, 135, 136, 136, 136, 136],
        [129, 129, 129, 129, 128, 128, 129, 131, 133, 135, 135, 135, 134, 134, 134, 134],
        [129, 129, 129, 128, 127, 127, 128, 130, 132, 134, 134, 134, 132, 132, 131, 131],
        [125, 125, 125, 126, 127, 128, 129, 130, 131, 131, 131, 130, 129, 128, 128, 128],
        [119, 119, 121, 123, 126, 129, 130, 130, 129, 128, 128, 127, 126, 125, 125, 125],
        [114, 115, 117, 121, 126, 130, 131, 130, 128, 126, 125, 124, 124, 123, 123, 123],
        [114, 115, 117, 121, 126, 130, 131, 130, 127, 125, 124, 124, 124, 124, 124, 124],
        [118, 119, 120, 123, 126, 129, 129, 128, 127, 125, 125, 126, 127, 128, 129, 129],
        [123, 124, 124, 125, 126, 127, 128, 127, 126, 126, 127, 129, 131, 133, 134, 134],
        [128, 128, 127, 127, 127, 126, 126, 126, 126, 127, 129, 132, 135, 137, 138, 139],
        [130, 130, 129, 128, 127, 126, 125, 126, 126, 127, 129, 133, 136, 139, 140, 141],
        [131, 131, 130, 128, 127, 125, 125, 125, 126, 128, 130, 133, 137, 140, 141, 142],
    ],
    7: [
        [76, 85, 103, 126, 150, 167, 156, 127, 115, 117, 120, 117, 119, 136, 156, 164],
        [89, 95, 108, 125, 145, 159, 151, 129, 120, 122, 125, 123, 124, 137, 151, 157],
        [119, 120, 120, 123, 132, 140, 139, 132, 131, 134, 137, 138, 138, 139, 139, 139],
        [144, 140, 131, 122, 122, 124, 129, 135, 140, 144, 147, 149, 148, 140, 131, 127],
        [139, 137, 132, 127, 127, 129, 132, 136, 139, 143, 144, 142, 139, 140, 141, 142],
        [127, 128, 130, 132, 135, 137, 136, 133, 134, 137, 138, 132, 128, 138, 151, 156],
        [126, 127, 130, 132, 133, 132, 129, 125, 126, 132, 136, 134, 131, 133, 135, 136],
        [129, 129, 130, 129, 127, 123, 119, 115, 118, 127, 135, 141, 140, 125, 106, 99],
        [118, 118, 119, 120, 124, 126, 122, 115, 117, 126, 133, 136, 133, 115, 96, 87],
        [91, 93, 95, 103, 123, 143, 141, 127, 123, 129, 129, 119, 107, 102, 100, 99],
        [92, 93, 91, 98, 123, 149, 149, 134, 128, 130, 126, 110, 98, 106, 119, 124],
        [151, 144, 128, 115, 123, 134, 136, 133, 129, 124, 121, 120, 125, 145, 167, 176],
        [196, 184, 158, 132, 122, 119, 122, 131, 130, 121, 119, 129, 146, 173, 200, 212],
        [155, 150, 140, 129, 123, 120, 124, 133, 135, 130, 126, 122, 124, 147, 173, 183],
        [92, 97, 108, 119, 123, 126, 131, 136, 139, 142, 135, 110, 92, 105, 127, 136],
        [68, 76, 96, 116, 124, 128, 133, 137, 141, 146, 138, 106, 79, 89, 110, 118],
    ],
}


def pattern() -> torch.Tensor:
    y, x = np.mgrid[:16, :16]
    return torch.from_numpy(((y * 37 + x * 101 + y * x * 13) % 256).astype(np.uint8))[None, None]


def two_interpolations(images: torch.Tensor, resolution: int) -> torch.Tensor:
    """The reference in fp64, not yet floored."""
    size = images.shape[-1]
    down = F.interpolate(images.double(), size=(resolution, resolution), mode="bicubic", antialias=True)
    return F.interpolate(down, size=(size, size), mode="bicubic", antialias=True).clamp(0, 255)


def assert_equal_levels(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Equal to the floor of `exact`, where that does not hang on the last bits of fp32."""
    settled = (exact - exact.round()).abs() > 5e-4
    assert torch.equal(found[settled], exact.floor().to(found.dtype)[settled])
    assert int((found.double() - exact).abs().max()) <= 1


@pytest.mark.parametrize("resolution", [4, 7])
def test_values_equal_tensorflow(resolution: int) -> None:
    assert degrade(pattern(), resolution)[0, 0].tolist() == TENSORFLOW[resolution]


@pytest.mark.parametrize("resolution", [7, 14, 28, 56])
def test_real_faces_equal_two_antialiased_interpolations(real_data: Path, resolution: int) -> None:
    paths = sorted((real_data / "faces" / "verify").glob("*/*.jpg"))[:16]
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths])
    assert_equal_levels(degrade(images, resolution), two_interpolations(images, resolution))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 24).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size))), st.integers(0, 99))
def test_any_size_and_resolution_equals_two_interpolations(sizes: tuple[int, int], seed: int) -> None:
    size, resolution = sizes
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
    assert_equal_levels(degrade(images, resolution), two_interpolations(images, resolution))


def test_each_image_gets_its_own_resolution() -> None:
    images = torch.randint(0, 256, (4, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mixed = degrade(images, torch.tensor([7, 28, 14, 7]))
    alone = [degrade(image[None], resolution)[0] for image, resolution in zip(images, [7, 28, 14, 7], strict=True)]
    assert torch.equal(mixed, torch.stack(alone))


def test_the_images_own_size_is_no_degradation() -> None:
    images = torch.randint(0, 256, (2, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(degrade(images, 28), images)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize("resolution", [7, 14, 28, 56])
def test_a_flat_image_stays_as_it_is(level: int, resolution: int) -> None:
    images = torch.full((1, 3, 112, 112), level, dtype=torch.uint8)
    assert torch.equal(degrade(images, resolution), images)


def test_float_images_give_the_same_levels() -> None:
    images = pattern()
    assert torch.equal(degrade(images.float(), 7), degrade(images, 7).float())
    assert torch.equal(degrade(images.double(), 7), degrade(images, 7).double())


def test_autocast_changes_nothing() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(degrade(pattern(), 7)[0, 0], torch.tensor(TENSORFLOW[7], dtype=torch.uint8))


def test_no_images_give_no_images() -> None:
    assert degrade(torch.empty(0, 3, 8, 8, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    ("images", "resolution", "message"),
    [
        (torch.zeros(2, 3, 8, 9), 4, r"not \(2, 3, 8, 9\)"),
        (torch.zeros(3, 8, 8), 4, r"not \(3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8), 9, "images of 8 px"),
        (torch.zeros(2, 3, 8, 8), 0, "images of 8 px"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([4, 4, 4]), "one per image"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([4.0, 4.0]), "one int"),
    ],
)
def test_unusable_inputs_are_named(images: torch.Tensor, resolution: int | torch.Tensor, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        degrade(images, resolution)
