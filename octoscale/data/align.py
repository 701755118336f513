"""Faces aligned by five landmarks to the ArcFace crop of 112 × 112 pixels."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from octoscale.errors import OctoscaleError

ALIGNED_SIZE = 112
# Centres of the eyes, tip of the nose, corners of the mouth; left is left in the image. x, y in pixels.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
JPEG_QUALITY = 95


def similarity_transform(points: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """The rotation, scale and shift that take `points` nearest to `targets`, in least squares (Umeyama 1991).

    Args:
        points, targets: [n, 2], x and y.

    Returns:
        float64 [2, 3]: target = M[:, :2] @ point + M[:, 2]. Never a reflection.

    Raises:
        OctoscaleError: the points are one point, or not finite numbers.
    """
    points, targets = np.asarray(points, np.float64), np.asarray(targets, np.float64)
    if not np.isfinite(points).all():
        raise OctoscaleError(f"landmarks must be finite numbers, these are {points.tolist()}")
    mean, target_mean = points.mean(axis=0), targets.mean(axis=0)
    centred, target_centred = points - mean, targets - target_mean
    variance = (centred**2).sum() / len(points)
    if variance < 1e-12:
        raise OctoscaleError(f"landmarks must be five different points, these are {points.tolist()}")
    u, singular, v = np.linalg.svd(target_centred.T @ centred / len(points))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = (u * signs) @ v
    scale = (singular * signs).sum() / variance
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ mean])


def align(pixels: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Warp an image so that its landmarks lie on `TEMPLATE`; bicubic, black outside of the image.

    Args:
        pixels: uint8 [H, W, 3].
        landmarks: [5, 2] in pixels of the image, in the template's order.

    Returns:
        uint8 [112, 112, 3].
    """
    matrix = similarity_transform(landmarks, TEMPLATE)
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    # Landmarks count from the centre of the first pixel; Pillow counts from its corner.
    back[:2, 2] += 0.5 - 0.5 * back[:2, :2].sum(axis=1)
    coefficients = tuple(back[:2].ravel().tolist())
    size = (ALIGNED_SIZE, ALIGNED_SIZE)
    # In bytes Pillow cuts fractions off, which darkens; in floats we round.
    channels = [
        Image.fromarray(pixels[..., channel].astype(np.float32)).transform(
            size, Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BICUBIC
        )
        for channel in range(3)
    ]
    warped = np.stack([np.asarray(channel) for channel in channels], axis=2)
    crop: NDArray[np.uint8] = np.rint(warped).clip(0, 255).astype(np.uint8)
    return crop


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """JPEG of quality 95 with full colour resolution."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
