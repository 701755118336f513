"""insightface's packs: what they hold, and what they may not."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import DataSet
from octoscale.evaluate.protocols import first_image
from octoscale.evaluate.protocols.pack import read_pack


def encoded(level: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (level, level, level)).save(data, "PNG")
    return data.getvalue()


# Ten pairs; the first image of each is the same.
IMAGES = [encoded(0 if place % 2 == 0 else 10 * place) for place in range(20)]
LABELS = [True, False] * 5


def pickled(folder: Path, value: Any, protocol: int = 5) -> str:
    path = folder / "lfw.bin"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return str(path)


def vectors(images: list[bytes]) -> list[Any]:
    return [np.frombuffer(image, np.uint8) for image in images]


def test_its_first_image_is_found_without_decoding_the_others(tmp_path: Path) -> None:
    pack = DataSet(protocol="bin", pairs=pickled(tmp_path, ([IMAGES[1], *[b"damaged"] * 19], LABELS)))
    assert first_image(pack).shape == (1, 3, 8, 8)
    empty = DataSet(protocol="bin", pairs=pickled(tmp_path, ([], [])))
    with pytest.raises(OctoscaleError, match="holds no pairs"):
        first_image(empty)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES, LABELS),
        (vectors(IMAGES), LABELS),
        ([vector.copy() for vector in vectors(IMAGES)], np.array(LABELS)),
        (IMAGES, [np.bool_(label) for label in LABELS]),
        (IMAGES, np.array(LABELS, np.int64)),
        (IMAGES, [np.int32(label) for label in LABELS]),
        (tuple(IMAGES), tuple(LABELS)),
    ],
    ids=["bytes", "arrays", "writable arrays", "NumPy's booleans", "int64", "NumPy's int32", "tuples"],
)
def test_a_pack_holds_bytes_or_uint8_arrays_and_booleans(
    tmp_path: Path, images: list[Any], labels: Any, protocol: int
) -> None:
    pairs, pixels = read_pack(pickled(tmp_path, (images, labels), protocol))

    assert pairs.same.tolist() == LABELS
    assert pairs.fold.tolist() == list(range(10))
    assert pixels.shape == (11, 3, 8, 8)
    assert pixels[pairs.first, 0, 0, 0].tolist() == [0] * 10
    assert pixels[pairs.second, 0, 0, 0].tolist() == [10 * place for place in range(1, 20, 2)]


def test_a_pack_written_by_python_2_is_read(tmp_path: Path) -> None:
    def text(data: bytes) -> bytes:
        return b"T" + len(data).to_bytes(4, "little") + data  # BINSTRING, Python 2's str

    body = b"](" + b"".join(map(text, IMAGES)) + b"e](" + b"".join(b"\x88" if same else b"\x89" for same in LABELS)
    (tmp_path / "lfw.bin").write_bytes(b"\x80\x02" + body + b"e\x86.")

    pairs, pixels = read_pack(str(tmp_path / "lfw.bin"))

    assert pairs.same.tolist() == LABELS
    assert len(pixels) == 11


class Harmful:
    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("harmful", [Harmful(), {1: Harmful()}, np.array([Harmful()], object)])
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pack_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harmful: Any, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(OctoscaleError, match=r"lfw.bin is not a pack .*only lists, bytes, booleans and uint8 arrays"):
        read_pack(pickled(tmp_path, (IMAGES, [harmful]), protocol))
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (IMAGES, r"expected \(images, labels\)"),
        ((IMAGES, LABELS[:9]), "has 20 images and 9 labels"),
        (([1] * 20, LABELS), "image 0 of .* is of type int; expected bytes"),
        ((IMAGES, ["yes"] * 10), "label 0 of .* is 'yes'; expected true or false"),
        (([b"no image"] * 20, LABELS), "cannot decode image 0 in .*lfw.bin"),
        ((IMAGES, [1.5] * 10), "label 0 of .* is 1.5"),
        ((np.zeros((2, 2), np.uint8), LABELS), "no vector of booleans or whole numbers"),
        (([np.zeros(3)] * 20, LABELS), "no vector of booleans or whole numbers"),
        (([np.zeros(3, np.int16)] * 20, LABELS), "image 0 of .* expected bytes or uint8"),
        ((IMAGES, np.arange(10)), "label 2 of .* is 2; expected true or false"),
    ],
)
def test_what_is_no_pack_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        read_pack(pickled(tmp_path, value))


def test_a_damaged_pack_is_refused(tmp_path: Path) -> None:
    path = pickled(tmp_path, (IMAGES, LABELS))
    Path(path).write_bytes(Path(path).read_bytes()[:-50])

    with pytest.raises(OctoscaleError, match="is not a pack of images and labels"):
        read_pack(path)
