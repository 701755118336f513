"""Decoding against Pillow, and its refusals."""

import io

import numpy as np
import pytest
from PIL import Image

from octoscale.data.decode import MAX_PIXELS, decode_image, decode_into, image_format
from octoscale.errors import OctoscaleError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "suffix"), [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")])
def test_pixels_are_those_that_pillow_decodes(kind: str, suffix: str) -> None:
    data = encoded(Image.fromarray(PIXELS), kind)

    pixels = decode_image(data)

    assert image_format(data) == suffix
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "jpeg"), ("CMYK", "jpeg"), ("L", "png"), ("P", "png"), ("RGBA", "png"), ("RGBA", "webp")]
)
def test_other_colour_modes_become_rgb(mode: str, kind: str) -> None:
    data = encoded(Image.fromarray(PIXELS).convert(mode), kind)

    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    # TurboJPEG and Pillow round CMYK differently.
    assert np.abs(decode_image(data) - expected).max() <= (1 if mode == "CMYK" else 0)


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "jpeg"), ("L", "jpeg"), ("CMYK", "jpeg"), ("RGB", "png")])
def test_decoding_into_memory_that_is_there_gives_the_same_pixels(mode: str, kind: str) -> None:
    data = encoded(Image.fromarray(PIXELS).convert(mode), kind)
    batch = np.zeros((3, 12, 10, 3), np.uint8)

    decode_into(data, batch[1])

    assert np.array_equal(batch[1], decode_image(data))
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("shape", [(10, 12, 3), (6, 5, 3), (24, 20, 3)])
def test_an_image_of_another_size_is_refused(shape: tuple[int, int, int], kind: str) -> None:
    with pytest.raises(OctoscaleError, match=rf"10×12 pixels, not {shape[1]}×{shape[0]}"):
        decode_into(encoded(Image.fromarray(PIXELS), kind), np.zeros(shape, np.uint8))


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_refused(kind: str, kept: float) -> None:
    data = encoded(Image.fromarray(np.tile(PIXELS, (5, 5, 1))), kind)

    with pytest.raises(OctoscaleError, match="damaged"):
        decode_image(data[: int(kept * len(data))])


@pytest.mark.parametrize("data", [b"", b"not an image", b"GIF89a....."])
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(OctoscaleError, match="not a JPEG, PNG or WebP image"):
        decode_image(data)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_small_file_of_very_many_pixels_is_refused_before_it_is_unfolded(kind: str) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    data = encoded(Image.new("L", (side, side)), kind, **({"compress_level": 1} if kind == "png" else {}))

    with pytest.raises(OctoscaleError, match="more than"):
        decode_image(data)


def test_sixteen_bit_pixels_are_refused_rather_than_clipped() -> None:
    data = encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "png")

    with pytest.raises(OctoscaleError, match="8 bits per channel"):
        decode_image(data)
