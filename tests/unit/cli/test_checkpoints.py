"""The commands that look at a run's commits."""

import json
from pathlib import Path

import pytest
import torch

from octoscale.checkpoint import CheckpointConfig, Checkpoints, Position
from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.train import train
from octoscale.trained import load_trained
from tests.conftest import SmallRun
from tests.unit.commands import Octoscale, refused

# Of parts that no commit names.
ORPHAN = "0123456789ab"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three commits of two tensors, and parts that no commit names."""
    with Checkpoints(str(tmp_path), World(), CheckpointConfig(keep_last=3)) as checkpoints:
        for step, score in ((1, 0.5), (2, 0.25), (3, None)):
            checkpoints.commit({"model": {"weight": torch.ones(step)}}, Position(step), {}, score)
    checkpoints.store.write(f"step-00000002-000001-{ORPHAN}/__0_0.distcp", b"orphan")
    checkpoints.store.write("step-00000009-000001-0123456789ab/__0_0.distcp", b"perhaps on its way")
    return tmp_path


def test_the_commits_are_listed_with_scores_and_sizes(call: Octoscale, folder: Path) -> None:
    answer = call("checkpoints", "list", folder, "--json")

    assert answer.code == 0
    told = json.loads(answer.out)
    assert [(row["step"], row["attempt"], row["score"], row["state"]) for row in told["commits"]] == [
        (1, 1, 0.5, "counts"), (2, 1, 0.25, "counts"), (3, 1, None, "counts"),
    ]  # fmt: skip
    for row in told["commits"]:
        (parts,) = (path for path in folder.glob(f"step-{row['step']:08d}-000001-*") if path.name[-12:] != ORPHAN)
        assert row["bytes"] == sum(path.stat().st_size for path in parts.iterdir() if path.name != "manifest.json")
    assert "0.2500" in call("checkpoints", "list", folder).out


def test_a_damaged_commit_is_found_and_nothing_is_changed(call: Octoscale, folder: Path) -> None:
    assert call("checkpoints", "verify", folder).code == 0
    (part,) = folder.glob("step-00000003-*/*.distcp")
    part.write_bytes(b"no")

    answer = call("checkpoints", "verify", folder, "--json")

    assert answer.code == 1
    rows = json.loads(answer.out.splitlines()[-1])["commits"]
    assert [row["state"] for row in rows] == ["whole", "whole", "damaged"]
    assert f"{part.name} is not what was committed" in rows[2]["cause"]
    assert len(list((folder / "commits").iterdir())) == 3


def test_pruning_keeps_the_newest_and_the_best_and_what_may_be_on_its_way(call: Octoscale, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    answer = call("checkpoints", "prune", folder, "--keep-last", "1", "--dry-run")
    assert answer.out.endswith("would delete 1 commits and 2 folders of parts\n")
    assert sorted(folder.rglob("*")) == before

    assert call("checkpoints", "prune", folder, "--keep-last", "1").code == 0

    assert [row["step"] for row in json.loads(call("checkpoints", "list", folder, "--json").out)["commits"]] == [1, 3]
    assert len(list(folder.glob("step-*"))) == 3
    assert (folder / "step-00000009-000001-0123456789ab").exists()
    assert call("checkpoints", "prune", folder, "--keep-last", "1", "--no-keep-best").code == 0
    assert [path.name for path in (folder / "commits").iterdir()] == ["00000003-000001.json"]


def test_exported_weights_load_in_a_configuration(call: Octoscale, small_run: SmallRun, tmp_path: Path) -> None:
    values = small_run(tmp_path / "run", checkpoint={"every_steps": 2})
    train(parse_config(values, source="of the test"), World(), quiet=True)
    file = tmp_path / "weights.pt"

    answer = call("checkpoints", "export", tmp_path / "run", file, "--step", "2")

    assert answer.out == f"wrote {file}: the weights after step 2\n"
    exported = torch.load(file, weights_only=True)
    for name, value in load_trained(str(tmp_path / "run"), step=2).network.backbone.state_dict().items():
        assert torch.equal(exported[name], value)
    again = small_run(tmp_path / "again", model={"name": "tiny", "embedding_dim": 16, "weights": str(file)}, steps=1)
    assert train(parse_config(again, source="of the test"), World(), quiet=True).status == "finished"
    refused(call("checkpoints", "export", tmp_path / "run", file, "--step", "3"), "holds no checkpoint of step 3")
    refused(call("checkpoints", "export", tmp_path / "run", file, "--step", "2", "--best"), "--step and --best")


@pytest.mark.parametrize("command", ["list", "verify", "export", "prune"])
def test_a_place_without_commits_is_named(call: Octoscale, tmp_path: Path, command: str) -> None:
    more = {"export": [str(tmp_path / "weights.pt")], "prune": ["--keep-last", "1"]}.get(command, [])
    refused(call("checkpoints", command, tmp_path / "absent", *more), "absent holds no checkpoint")
    assert not (tmp_path / "absent").exists()
