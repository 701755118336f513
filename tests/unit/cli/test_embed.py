"""``octoscale embed`` and ``octoscale verify``: how the network is reached."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from octoscale.evaluate.export import write_embeddings
from octoscale.export import export
from octoscale.models import load
from tests.conftest import SmallRun
from tests.unit.commands import Octoscale, refused


@pytest.fixture
def file(drawn_faces: Path, tmp_path: Path) -> Path:
    size = Image.open(_two(drawn_faces)[0]).width
    export(load("tiny"), tmp_path / "face.pt", "torchscript", image_size=size)
    return tmp_path / "face.pt"


def _two(faces: Path) -> list[Path]:
    return sorted((faces / "verify").rglob("*.jpg"))[:2]


def test_a_file_of_export_embeds_and_verifies_without_settings(
    call: Octoscale, drawn_faces: Path, file: Path, tmp_path: Path
) -> None:
    first, second = _two(drawn_faces)
    answer = call("embed", first.parent, tmp_path / "all.npz", "--network", file, "--json")
    assert answer.code == 0, answer
    assert json.loads(answer.out.splitlines()[-1])["step"] is None
    assert np.load(tmp_path / "all.npz")["embeddings"].ndim == 2
    same = json.loads(call("verify", first, first, "--network", file, "--threshold", "0.9", "--json").out)
    assert (same["same"], round(same["similarity"], 4)) == (True, 1.0)
    refused(call("verify", first, second, "--network", file), "has no threshold; give --threshold")
    refused(call("embed", first.parent, tmp_path / "a.npz", "seed=3", "--network", file), "seed=3", "is a file")


def test_a_folder_elsewhere_is_reached_by_storage_settings(
    call: Octoscale, drawn_faces: Path, file: Path, tmp_path: Path
) -> None:
    first, second = _two(drawn_faces)
    Store("memory://faces").write("one.jpg", first.read_bytes())
    how, asked = "storage.connections=2", ("--network", file)

    assert call("embed", "memory://faces", tmp_path / "a.npz", how, *asked).code == 0
    assert np.load(tmp_path / "a.npz")["names"].tolist() == ["one.jpg"]

    refused(call("embed", "memory://faces", tmp_path / "b.npz", "storage.timeout_seconds=400", *asked), "deadline")
    refused(call("embed", "memory://faces", tmp_path / "b.npz", how, "seed=3", *asked), "seed=3 is of a run")
    refused(call("embed", first.parent, tmp_path / "b.npz", how, *asked), how, "is a file")
    refused(call("verify", first, second, how, "--threshold", "0", *asked), how, "is a file")


def test_embeddings_that_are_not_finite_are_refused(
    call: Octoscale, drawn_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load("tiny")
    with torch.no_grad():
        next(network.backbone.parameters()).fill_(torch.nan)
    monkeypatch.setattr("octoscale.given.network_of_file", lambda path: network)
    first, second = _two(drawn_faces)
    asked = ("--network", "broken.onnx")

    # No similarity is no decision.
    refused(call("verify", first, second, *asked, "--threshold", "0.4", "--json"), "broken.onnx gives NaN")
    refused(call("embed", first.parent, tmp_path / "a.npz", *asked), "embeddings are not finite", first.name)
    assert not list(tmp_path.glob("a.npz*"))


def test_a_table_that_cannot_be_written_is_told_before_the_work(
    call: Octoscale, drawn_faces: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setattr("octoscale.evaluate.export.embed_folder", None)
    answer = call("embed", drawn_faces / "verify", tmp_path / "all.parquet", "--network", file)
    refused(answer, "all.parquet needs a package", "octoscale[parquet]")


def test_a_name_that_is_not_utf_8_does_not_fit_into_a_table(tmp_path: Path) -> None:
    names, embeddings = ["ok.jpg", os.fsdecode(b"\xe9.jpg")], np.zeros((2, 3), np.float32)
    with pytest.raises(OctoscaleError, match=r"all\.parquet cannot hold the name '.udce9\.jpg'.*write \.npz"):
        write_embeddings(tmp_path / "all.parquet", names, embeddings)
    assert not list(tmp_path.iterdir())

    write_embeddings(tmp_path / "all.npz", names, embeddings)
    assert np.load(tmp_path / "all.npz")["names"].tolist() == names


def test_overrides_reach_the_configuration(
    call: Octoscale, small_run: SmallRun, drawn_faces: Path, tmp_path: Path
) -> None:
    first, second = _two(drawn_faces)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(small_run(tmp_path / "run")))
    asked = ["--network", config, "--threshold", "0", "--json"]
    one, other = (
        json.loads(call("verify", first, second, f"seed={seed}", *asked).out)["similarity"] for seed in (1, 2)
    )
    assert one != other
    refused(call("verify", first, second, "model.nme=x", *asked), "model.nme")
