"""Equal images are found by their bytes, not by their checksums alone."""

from pathlib import Path

import numpy as np

from octoscale.data.inspection.duplicates import _candidates, find_duplicates
from octoscale.data.inspection.view import View, open_view
from octoscale.data.pack import pack
from tests.unit.data.conftest import MakeFolder, encode


def test_groups_are_told_apart_by_identity(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 3, "b": 3, "c": 2})
    (source / "a/001.jpg").write_bytes(encode(0))  # a/000.jpg again
    for name in ("b/001.jpg", "c/000.jpg"):
        (source / name).write_bytes((source / "b/000.jpg").read_bytes())
    pack(str(source), str(tmp_path / "packed"))

    with open_view(str(tmp_path / "packed")) as view:
        found = find_duplicates(view)

    assert found.within == ((0, 1),)
    assert found.across == ((3, 4, 6),)


def test_equal_checksums_are_no_proof(make_folder: MakeFolder, tmp_path: Path) -> None:
    pack(str(make_folder({"a": 3})), str(tmp_path / "packed"))

    class Colliding(View):
        def read(self, sample_id: int) -> bytes:
            return b"same" if sample_id == 2 else bytes([sample_id])

    with open_view(str(tmp_path / "packed")) as view:
        index = view.index
        object.__setattr__(index, "crc32", np.zeros(3, np.uint32))
        object.__setattr__(index, "sizes", np.ones(3, np.int32))
        found = find_duplicates(Colliding(index, view.store))

    assert found.within == found.across == ()


def test_candidates_share_checksum_and_size() -> None:
    crc32, sizes = np.array([1, 1, 2, 1, 2], np.uint32), np.array([5, 6, 5, 5, 7], np.int32)

    assert _candidates(crc32, sizes) == [0, 3]
