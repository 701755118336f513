"""``octoscale quickstart`` that is asked to stop while it trains."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from octoscale.checkpoint import Position
from octoscale.orchestrate.ray_train import LaunchResult
from octoscale.train import Summary
from tests.unit.commands import Octoscale, refused


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order; each training is stopped when it runs for the first time."""
    found: list[str] = []

    def prepare(name: str) -> None:
        def did(source: object, *arguments: object, **options: object) -> SimpleNamespace:
            (Path(str(arguments[0])) if arguments else Path(str(source))).mkdir(parents=True)
            found.append(name)
            return SimpleNamespace(images=1, identities=1, shards=1)

        monkeypatch.setattr(f"octoscale.quickstart.{name}", did)

    def train(*arguments: Any, **options: Any) -> Summary:
        found.append("train")
        status: Any = "interrupted" if found.count("train") == 1 else "finished"
        return Summary(status, Position(7, 0, 0, 0), None, None)

    def launch(*arguments: Any, **options: Any) -> LaunchResult:
        found.append("launch")
        return LaunchResult("interrupted", 5, None, None)

    prepare("write_synthetic_faces")
    prepare("pack")
    monkeypatch.setattr("octoscale.quickstart.train", train)
    monkeypatch.setattr("octoscale.quickstart.launch", launch)
    return found


def test_the_same_command_goes_on_where_a_training_was_stopped(
    call: Octoscale, done: list[str], tmp_path: Path
) -> None:
    command = ("quickstart", "--directory", tmp_path / "here")

    answer = call(*command, "--json")
    assert answer.code == 75
    assert done == ["write_synthetic_faces", "pack", "train"]
    assert f"stopped after step 7 of {tmp_path}/here/pretrained was committed" in answer.err
    ended = json.loads(answer.out.splitlines()[-1])
    assert (ended["status"], ended["step"], Path(ended["directory"]).name) == ("interrupted", 7, "pretrained")

    answer = call(*command)
    assert answer.code == 75
    assert done[3:] == ["train", "launch"]
    assert f"stopped after step 5 of {tmp_path}/here/finetuned was committed; the same command goes on" in answer.err


def test_other_faces_do_not_go_on_with_it(call: Octoscale, done: list[str], tmp_path: Path) -> None:
    call("quickstart", "--directory", tmp_path / "here")
    for name in ("train", "verify"):
        (tmp_path / "faces" / name).mkdir(parents=True)
    for name in ("pairs.txt", "weights.pt"):
        (tmp_path / name).write_text("")
    own = ("--faces", tmp_path / "faces", "--pairs", tmp_path / "pairs.txt", "--weights", tmp_path / "weights.pt")

    refused(call("quickstart", "--directory", tmp_path / "here", *own), "here is not empty", "--directory")
