"""Commits on a real S3 protocol over HTTP."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import octoscale.cli
from octoscale.checkpoint import CheckpointConfig, Checkpoints, Commit, DamagedError, FencedError, Position
from octoscale.config import parse_config
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.journal import read_journal
from octoscale.train import train
from octoscale.trained import load_trained
from tests.conftest import SmallRun


def checkpoints_in(url: str, **settings: Any) -> Checkpoints:
    return Checkpoints(f"{url}/run/checkpoints", World(), CheckpointConfig(**settings))


def commit(checkpoints: Checkpoints, step: int, score: float | None = None) -> None:
    checkpoints.commit({"weight": torch.full((4,), float(step))}, Position(step), {"config": {}}, score)
    checkpoints.wait()


def test_commits_are_kept_swept_and_read_back(s3_url: str) -> None:
    checkpoints = checkpoints_in(s3_url, keep_last=1)
    checkpoints.check_writable()
    for step, score in ((1, 0.9), (2, 0.1), (3, None)):
        commit(checkpoints, step, score)

    commits = checkpoints.commits()
    assert [found.step for found in commits] == [1, 3]
    names = checkpoints.store.list()
    assert {name.split("/")[0] for name in names if name.startswith("step-")} == {c.prefix for c in commits}
    state = {"weight": torch.zeros(4)}
    checkpoints.load(state, commits[0])
    assert (state["weight"] == 1).all()


def part_of(checkpoints: Checkpoints, commit: Commit, suffix: str) -> str:
    (name,) = (name for name in checkpoints.store.list(commit.prefix) if name.endswith(suffix))
    return name


def test_damage_is_found_put_aside_and_the_step_committed_again(s3_url: str) -> None:
    checkpoints = checkpoints_in(s3_url)
    commit(checkpoints, 1)
    commit(checkpoints, 2)
    newest = checkpoints.newest()
    assert newest is not None
    part = part_of(checkpoints, newest, ".distcp")
    checkpoints.store.write(part, checkpoints.store.read(part)[:-1])

    with pytest.raises(DamagedError, match="is not what was committed") as raised:
        checkpoints.load({"weight": torch.zeros(4)}, newest)
    checkpoints.quarantine(newest, raised.value)

    assert [found.step for found in checkpoints.commits()] == [1]
    commit(checkpoints, 2)
    assert [found.step for found in checkpoints.commits()] == [1, 2]


def test_a_missing_part_is_damage(s3_url: str) -> None:
    checkpoints = checkpoints_in(s3_url)
    commit(checkpoints, 1)
    newest = checkpoints.commits()[0]
    checkpoints.store.delete(part_of(checkpoints, newest, ".metadata"))

    with pytest.raises(DamagedError, match=r"\.metadata is missing"):
        checkpoints.load({"weight": torch.zeros(4)}, newest)


def test_an_attempt_that_was_replaced_can_commit_nothing_and_keeps_nobody_from_it(s3_url: str) -> None:
    zombie, newer = checkpoints_in(s3_url), checkpoints_in(s3_url)
    commit(zombie, 1)
    commit(newer, 2)

    with pytest.raises(FencedError, match=r"attempt 1 .* was replaced by attempt 2 "):
        commit(zombie, 2)

    assert [(found.step, found.attempt) for found in newer.commits()] == [(1, 1), (2, 2)]


def test_a_bucket_that_does_not_exist_is_told_before_the_work(s3_server: str, small_run: SmallRun) -> None:
    with pytest.raises(OctoscaleError, match="s3://no-such-bucket"):
        train(parse_config(small_run("s3://no-such-bucket/run"), source="of the test"), World(), quiet=True)


def test_a_run_on_s3_resumes_to_the_bits_of_a_local_one(s3_url: str, small_run: SmallRun, tmp_path: Path) -> None:
    def run(directory: Path | str, steps: int) -> None:
        train(parse_config(small_run(directory, steps=steps), source="of the test"), World(), quiet=True)

    run(tmp_path / "local", 4)
    run(f"{s3_url}/runs/one", 2)
    run(f"{s3_url}/runs/one", 4)

    def told(url: str) -> list[tuple[int, int, float]]:
        return [(line.step, line.sample_ids_crc32, line.result.loss) for line in read_journal(Store(url))]

    assert told(f"{s3_url}/runs/one") == told(str(tmp_path / "local"))
    local, remote = load_trained(str(tmp_path / "local")).network, load_trained(f"{s3_url}/runs/one").network
    for name, value in local.state_dict().items():
        assert torch.equal(remote.state_dict()[name], value)


def test_the_commands_list_verify_and_prune_what_is_there(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["octoscale", "checkpoints", *arguments])
        with pytest.raises(SystemExit) as ended:
            octoscale.cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    checkpoints = checkpoints_in(s3_url, keep_last=4)
    for step in (1, 2, 3, 4):
        commit(checkpoints, step)
    newest = checkpoints.commits()[-1]
    run = f"{s3_url}/run"

    code, out = call("list", run, "--json")
    assert code == 0
    assert [row["step"] for row in json.loads(out)["commits"]] == [1, 2, 3, 4]
    assert call("verify", run)[0] == 0
    assert call("prune", run, "--keep-last", "3")[0] == 0
    assert [found.step for found in checkpoints.commits()] == [2, 3, 4]
    checkpoints.store.write(part_of(checkpoints, newest, ".distcp"), b"no")
    code, out = call("verify", run, "--json")
    assert code == 1
    assert [row["state"] for row in json.loads(out.splitlines()[-1])["commits"]] == ["whole", "whole", "damaged"]
    # It may not be the only one that is left.
    assert call("prune", run, "--keep-last", "1")[0] == 1
    assert [found.step for found in checkpoints.commits()] == [2, 3, 4]
