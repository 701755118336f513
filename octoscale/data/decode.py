"""Image bytes to pixels."""

import io
import struct
import zlib

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from octoscale.errors import OctoscaleError

_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
# Refuse a small file that unfolds into gigabytes: a face crop is 0.01 megapixels, a large photo 50.
MAX_PIXELS = 64 * 2**20


def image_format(data: bytes) -> str | None:
    """``"jpg"``, ``"png"`` or ``"webp"`` by the first bytes; None for anything else."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode JPEG, PNG or WebP bytes completely.

    Returns:
        uint8 [H, W, 3], RGB. Grey images repeat their channel, transparency is dropped.

    Raises:
        OctoscaleError: truncated or damaged bytes, another format, more than `MAX_PIXELS`.
    """
    kind = image_format(data)
    if kind is None:
        raise OctoscaleError(f"not a JPEG, PNG or WebP image: {len(data)} bytes starting with {data[:8]!r}")
    try:
        if kind == "jpg":
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            _check_pixels(width, height)
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
            return pixels
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            _check_pixels(*image.size)
            if image.mode not in _MODES:
                raise OctoscaleError(f"pixels of mode {image.mode} are not supported; convert to 8 bits per channel")
            return np.array(image.convert("RGB"))
    except OctoscaleError:
        raise
    except _PILLOW_ERRORS as error:
        raise OctoscaleError(f"damaged {kind} image: {error}") from error


def decode_into(data: bytes, out: NDArray[np.uint8]) -> None:
    """The same, written to `out` (uint8 [H, W, 3], contiguous), which saves a copy.

    Raises:
        OctoscaleError: as `decode_image`, and where the image has another size; `out` then holds anything.
    """
    if image_format(data) == "jpg":
        try:
            if simplejpeg.decode_jpeg(data, "RGB", buffer=out).shape == out.shape:
                return
        except ValueError:
            # Damaged, or larger than `out`: looked into below.
            pass
    pixels = decode_image(data)
    if pixels.shape != out.shape:
        (height, width), wanted = pixels.shape[:2], out.shape[:2]
        raise OctoscaleError(f"decoded to {width}×{height} pixels, not {wanted[1]}×{wanted[0]}")
    out[:] = pixels


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise OctoscaleError(f"the image is {width}×{height}: more than {MAX_PIXELS:,} pixels")
