"""Pictures of the page as data URIs."""

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor

_LARGEST_FACE = 112


def data_uri(jpeg: bytes) -> str:
    """What an ``<img>`` shows without asking anyone."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def face_uri(pixels: Tensor) -> str:
    """One image, uint8 [3, H, W], RGB, at most 112 px high."""
    image = Image.fromarray(np.asarray(pixels.permute(1, 2, 0).cpu()))
    image.thumbnail((_LARGEST_FACE, _LARGEST_FACE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return data_uri(buffer.getvalue())
