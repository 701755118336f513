"""Alignment, against the least-squares solution in complex numbers and against pixels."""

import numpy as np
import pytest

from octoscale.data.align import TEMPLATE, align, encode_jpeg, similarity_transform
from octoscale.data.decode import decode_image
from octoscale.errors import OctoscaleError


def complex_solution(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """A similarity is w = a z + b in complex numbers; least squares gives a as a quotient of sums."""
    z, w = points @ [1, 1j], targets @ [1, 1j]
    centred = z - z.mean()
    a = (centred.conj() * (w - w.mean())).sum() / (abs(centred) ** 2).sum()
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def test_the_template_is_arcfaces() -> None:
    assert TEMPLATE.ravel().tolist() == [
        38.2946, 51.6963, 73.5318, 51.5014, 56.0252, 71.7366, 41.5493, 92.3655, 70.7299, 92.2041,
    ]  # fmt: skip


def test_points_on_the_template_stay() -> None:
    assert np.allclose(similarity_transform(TEMPLATE, TEMPLATE), [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_a_turn_a_scale_and_a_shift_are_undone() -> None:
    # Turned by 90 degrees, doubled, shifted by (10, 20): x' = −2 y + 10, y' = 2 x + 20.
    points = np.column_stack([-2 * TEMPLATE[:, 1] + 10, 2 * TEMPLATE[:, 0] + 20])

    # Back: x = (y' − 20) / 2, y = (10 − x') / 2.
    assert np.allclose(similarity_transform(points, TEMPLATE), [[0, 0.5, -10], [-0.5, 0, 5]], atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_any_landmarks_give_the_least_squares_similarity(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, 500, (5, 2))

    assert np.allclose(similarity_transform(points, TEMPLATE), complex_solution(points, TEMPLATE), atol=1e-9)


def test_a_mirrored_face_is_turned_but_never_mirrored() -> None:
    mirrored = TEMPLATE * [-1, 1]

    matrix = similarity_transform(mirrored, TEMPLATE)

    assert np.linalg.det(matrix[:, :2]) > 0
    assert np.allclose(matrix, complex_solution(mirrored, TEMPLATE), atol=1e-9)


@pytest.mark.parametrize("points", [np.ones((5, 2)), np.full((5, 2), np.nan), np.full((5, 2), np.inf)])
def test_landmarks_without_extent_or_number_are_refused(points: np.ndarray) -> None:
    with pytest.raises(OctoscaleError, match="landmarks must be"):
        similarity_transform(points, TEMPLATE)


def test_a_face_on_the_template_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)

    assert np.array_equal(align(pixels, TEMPLATE), pixels)


def test_a_shifted_face_is_shifted_back_and_the_rest_is_black() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (130, 140, 3), dtype=np.uint8)

    crop = align(pixels, TEMPLATE + np.array([30, 25]))

    assert np.array_equal(crop[:105, :110], pixels[25:130, 30:140])
    assert not crop[105:].any()
    assert not crop[:, 110:].any()


def test_a_face_of_twice_the_size_keeps_its_place() -> None:
    # A smooth picture whose value says where it is: red is x, green is y, from pixel centre to pixel centre.
    y, x = np.mgrid[:224, :224]
    pixels = np.stack([x, y, 0 * x], axis=2).astype(np.uint8)
    # Centre of pixel i of the small picture is at 2 i + 0.5 of the large one.
    crop = align(pixels, 2 * TEMPLATE + 0.5).astype(float)

    inside = crop[2:-2, 2:-2]
    expected = 2 * np.arange(2, 110) + 0.5
    # Half a level of rounding, and the source's own.
    assert np.abs(inside[..., 0] - expected).max() <= 1
    assert np.abs(inside[..., 1] - expected[:, None]).max() <= 1


def test_crops_are_encoded_finely() -> None:
    y, x = np.mgrid[:112, :112]
    pixels = np.stack([2 * x, 2 * y, x + y], axis=2).astype(np.uint8)

    assert np.abs(decode_image(encode_jpeg(pixels)).astype(int) - pixels).max() <= 6
