"""Small image folders, and data sets packed from them."""

import io
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octoscale.data.index import Index
from octoscale.data.pack import pack
from octoscale.data.storage import Store
from tests.data_sets import upload

MakeFolder = Callable[[dict[str, int]], Path]


def encode(seed: int, *, size: tuple[int, int] = (16, 16), suffix: str = "jpeg") -> bytes:
    """An encoded image of random pixels; `size` is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, suffix)
    return buffer.getvalue()


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Make an image folder of so many 16 × 16 JPEGs per identity key."""

    def make(images: dict[str, int]) -> Path:
        seed = 0
        for key, count in images.items():
            folder = tmp_path / "source" / key
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number:03d}.jpg").write_bytes(encode(seed))
                seed += 1
        return tmp_path / "source"

    return make


@pytest.fixture
def packed(make_folder: MakeFolder, tmp_path: Path) -> Index:
    """Six identities of four images, in several shards."""
    source = make_folder(dict.fromkeys("abcdef", 4))
    pack(str(source), str(tmp_path / "packed"), shard_bytes=20_000)
    return Index.load(tmp_path / "packed")


@pytest.fixture
def remote(packed: Index) -> Store:
    """The data set `packed` under a URL that is not local."""
    store = Store(f"memory://{uuid.uuid4().hex}/faces")
    upload(packed, store)
    return store
