"""Weights in and out of local files."""

import io
import os
import pickle
import random
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from octoscale.errors import OctoscaleError
from octoscale.given import network_of_file
from octoscale.models import load, save_weights
from octoscale.models.tiny import TinyNet
from octoscale.models.weights import load_weights
from tests.unit.models.graphs import Small, write_graph


def _equal(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)


def test_saved_weights_load_again(tmp_path: Path) -> None:
    saved, loaded = TinyNet(), TinyNet()
    save_weights(saved, tmp_path / "tiny.pt")
    load_weights(loaded, tmp_path / "tiny.pt")
    assert _equal(loaded.state_dict(), saved.state_dict())


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_whole_network_given_as_weights_is_told_where_it_belongs(tmp_path: Path) -> None:
    path = write_graph(Small().eval(), tmp_path / "small.pt").rename(tmp_path / "small.ts")
    with pytest.raises(OctoscaleError, match=r"small\.ts are a whole TorchScript network: give it as model\.name"):
        load_weights(TinyNet(), path)


def test_the_file_is_a_plain_state_dict_of_the_backbone(tmp_path: Path) -> None:
    network = load("tiny")
    save_weights(network, tmp_path / "tiny.pt")
    assert _equal(torch.load(tmp_path / "tiny.pt", weights_only=True), network.backbone.state_dict())


def test_loading_by_name_restores_the_embeddings(tmp_path: Path) -> None:
    network = load("tiny").eval()
    save_weights(network, tmp_path / "tiny.pt")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(load("tiny", weights=tmp_path / "tiny.pt").eval()(images), network(images))


@pytest.mark.parametrize("shape", ["nested", "prefixed", "nested and prefixed"])
def test_usual_wrappings_of_a_state_dict_are_understood(shape: str, tmp_path: Path) -> None:
    expected = TinyNet().state_dict()
    state: dict[str, Any] = dict(expected)
    if "prefixed" in shape:
        state = {f"module.{key}": value for key, value in state.items()}
    if "nested" in shape:
        state = {"epoch": 3, "state_dict": state}
    torch.save(state, tmp_path / "tiny.pt")
    loaded = TinyNet()
    load_weights(loaded, tmp_path / "tiny.pt")
    assert _equal(loaded.state_dict(), expected)


def test_every_kind_of_misfit_is_counted_and_named(tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    for key in ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        del state[key]
    state["head.weight"] = torch.zeros(3)
    state["fc.weight"] = torch.zeros(32, 512)
    torch.save(state, tmp_path / "tiny.pt")
    with pytest.raises(OctoscaleError) as caught:
        load_weights(TinyNet(), tmp_path / "tiny.pt")
    message = str(caught.value)
    assert "4 missing (bn.weight, bn.bias, bn.running_mean, …)" in message
    assert "1 unexpected (head.weight)" in message
    assert "1 of another shape (fc.weight (32, 512) instead of (64, 512))" in message


def test_weights_of_a_pytorch_that_did_not_count_batches_load(tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, tmp_path / "tiny.pt")
    network = TinyNet()
    load_weights(network, tmp_path / "tiny.pt")
    assert _equal(network.state_dict(), state)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    state["fc.weight"] = torch.full_like(state["fc.weight"], value)
    torch.save(state, tmp_path / "tiny.pt")
    network = TinyNet()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(OctoscaleError, match=r"broken: fc\.weight has numbers that are not finite"):
        load_weights(network, tmp_path / "tiny.pt")
    assert _equal(network.state_dict(), before)


def test_weights_that_do_not_fit_leave_the_network_as_it_was(tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    del state["bn.bias"]
    torch.save(state, tmp_path / "tiny.pt")
    network = TinyNet()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(OctoscaleError):
        load_weights(network, tmp_path / "tiny.pt")
    assert _equal(network.state_dict(), before)


def test_another_embedding_dim_than_the_weights_is_an_error(tmp_path: Path) -> None:
    save_weights(TinyNet(embedding_dim=64), tmp_path / "tiny.pt")
    with pytest.raises(OctoscaleError, match=r"fc\.weight \(64, 512\) instead of \(32, 512\).*embedding_dim"):
        load("tiny", embedding_dim=32, weights=tmp_path / "tiny.pt")


def test_a_path_that_is_absent_or_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="No such file"):
        load("tiny", weights=tmp_path / "absent.pt")
    with pytest.raises(OctoscaleError, match="directory"):
        load("tiny", weights=tmp_path)


@pytest.mark.parametrize("found", [[1, 2], torch.zeros(3), {"epoch": 3}, {3: torch.zeros(1)}])
def test_a_file_that_holds_something_else_is_an_error(found: object, tmp_path: Path) -> None:
    torch.save(found, tmp_path / "other.pt")
    with pytest.raises(OctoscaleError, match="not a state_dict"):
        load_weights(TinyNet(), tmp_path / "other.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_with_options_and_scores_is_read(zipped: bool, tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    found = {"state_dict": state, "best": np.float64(0.99), "args": Namespace(margin=0.4), "epoch": 3}
    torch.save(found, tmp_path / "tiny.pt", _use_new_zipfile_serialization=zipped)
    network = TinyNet()
    load_weights(network, tmp_path / "tiny.pt")
    assert _equal(network.state_dict(), state)


@pytest.mark.parametrize("name", ["model", "net", "ema"])
def test_the_only_state_of_a_checkpoint_is_taken_whatever_its_name(name: str, tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    torch.save({name: state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3}, tmp_path / "tiny.pt")
    network = TinyNet()
    load_weights(network, tmp_path / "tiny.pt")
    assert _equal(network.state_dict(), state)


def test_a_checkpoint_with_two_states_says_what_is_in_it(tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    torch.save({"model": state, "ema": state, "epoch": 3}, tmp_path / "tiny.pt")
    with pytest.raises(OctoscaleError, match=r"a dict with model, ema, epoch: .*2 states \(model, ema\)"):
        load_weights(TinyNet(), tmp_path / "tiny.pt")


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(OctoscaleError, match="not a readable state_dict: they are a whole Linear"):
        load_weights(nn.Linear(2, 2), tmp_path / "module.pt")


class _WritesAFile:
    """Pickles as a call that creates `path` when an ordinary unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_that_is_refused_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": TinyNet().state_dict(), "hook": os.system}, tmp_path / "evil.pt")
    with pytest.raises(OctoscaleError, match=r"not a readable state_dict: \w+\.system in it is code"):
        load_weights(TinyNet(), tmp_path / "evil.pt")


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_WritesAFile(tmp_path / "ran"), protocol=2))
    with pytest.raises(OctoscaleError, match="not a readable state_dict"):
        load_weights(TinyNet(), tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_never_escape_as_another_error(zipped: bool, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(4)}, buffer, _use_new_zipfile_serialization=zipped)
    whole = buffer.getvalue()
    dice = random.Random(0)
    path = tmp_path / "damaged.pt"
    for _ in range(150):
        damaged = bytearray(whole[: dice.randrange(len(whole))] or b"not a file of torch.save")
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        with pytest.raises(OctoscaleError):
            load_weights(nn.Linear(2, 2), path)


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").write_bytes(b"old")
    save_weights(TinyNet(), tmp_path / "tiny.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.pt"]
    load_weights(TinyNet(), tmp_path / "tiny.pt")


def test_an_interrupted_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.pt"
    path.write_bytes(b"old")

    def breaks_off(state: object, file: io.BufferedWriter) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        save_weights(TinyNet(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_an_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="cannot write weights"):
        save_weights(TinyNet(), tmp_path / "absent" / "tiny.pt")


def test_a_path_in_the_home_folder_is_that_of_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    network = load("tiny").eval()
    save_weights(network, tmp_path / "tiny.pt")
    write_graph(Small().eval(), tmp_path / "small.pt")
    found = load("tiny", weights="~/tiny.pt")
    assert _equal(found.state_dict(), network.state_dict())
    assert load("~/small.pt")(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    assert network_of_file(Path("~/tiny.pt")).name == "tiny"
