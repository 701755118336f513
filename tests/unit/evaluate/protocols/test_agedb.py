"""AgeDB's MATLAB file."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.agedb import read_agedb


def cells(values: list[Any], shape: tuple[int, ...]) -> Any:
    """A cell array."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def split(number: int) -> dict[str, Any]:
    """One genuine and one impostor pair."""
    names = [[f"{number}_A_20_m", f"{number}_A_21_m"], [f"{number}_A_50_m", f"{number}_B_51_m"]]
    images = [{"name": name, "age": 30} for row in names for name in row]
    return {"pairs": cells(images, (2, 2)), "labels": np.array([[1, -1]])}


def write(folder: Path, **variables: Any) -> str:
    savemat(folder / "agedb.mat", variables)
    return str(folder / "agedb.mat")


def test_agedb_has_ten_splits_of_pairs_by_name(tmp_path: Path) -> None:
    pairs = read_agedb(write(tmp_path, splits=cells([split(number) for number in range(10)], (10, 1))))

    assert pairs.images[:4] == ("0_A_20_m", "0_A_50_m", "0_A_21_m", "0_B_51_m")
    assert pairs.first.tolist()[:2] == [0, 2]
    assert pairs.second.tolist()[:2] == [1, 3]
    assert pairs.same.tolist() == [True, False] * 10
    assert pairs.fold.tolist() == [k // 2 for k in range(20)]
    assert pairs.where[3].startswith("pair 2 of split 2 of")


def test_another_matlab_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="no variable splits, only x"):
        read_agedb(write(tmp_path, x=1))
    with pytest.raises(OctoscaleError, match=r"split 1 of .* is not built as AgeDB's .*a structure was expected"):
        read_agedb(write(tmp_path, splits=cells([1.0, 2.0], (2, 1))))
    for wrong in (np.nan, 2):
        labels = {"labels": np.array([[1, wrong]])}
        with pytest.raises(
            OctoscaleError, match=r"split 2 of .* is not built as AgeDB's .labels other than 1, −1 and 0"
        ):
            read_agedb(write(tmp_path, splits=cells([split(0), split(1) | labels], (2, 1))))
    (tmp_path / "agedb.mat").write_bytes(b"no MATLAB")
    with pytest.raises(OctoscaleError, match="is not a MATLAB file"):
        read_agedb(str(tmp_path / "agedb.mat"))


def test_without_scipy_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)

    with pytest.raises(OctoscaleError, match=r"pip install octoscale\[matlab\]"):
        read_agedb(str(tmp_path / "agedb.mat"))
