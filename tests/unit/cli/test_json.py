"""With ``--json`` stdout has one object a line, and text for people is on stderr."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import SmallRun
from tests.unit.commands import Answer, Octoscale, refused


def events(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.out.splitlines()]


@pytest.fixture
def config(small_run: SmallRun, tmp_path: Path, drawn_faces: Path) -> Path:
    verify = drawn_faces / "verify"
    evaluate = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32], "modes": ["cross"]}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(small_run(tmp_path / "run", evaluate=evaluate, checkpoint={"every_steps": 2})))
    return path


def test_a_training_tells_its_sizes_steps_commits_evaluations_and_result(
    call: Octoscale, config: Path, tmp_path: Path
) -> None:
    answer = call("train", config, "--json")

    assert answer.code == 0
    told = events(answer)
    assert told[0]["event"] == "geometry"
    assert (told[0]["global_batch_size"], told[0]["chunks"], told[0]["steps"]) == (16, [16], 4)
    steps = [event for event in told if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4]
    assert all(event["images_per_second"] > 0 and event["steps"] == 4 for event in steps)
    assert steps[-1]["eta_seconds"] == 0
    assert sorted(event["step"] for event in told if event["event"] == "commit") == [2, 4]
    (evaluation,) = (event for event in told if event["event"] == "evaluation")
    result = told[-1]
    assert (result["event"], result["status"], result["step"]) == ("result", "finished", 4)
    assert result["directory"] == str(tmp_path / "run")
    assert set(result["accuracy"]["final"]["cross"]) == set(result["accuracy"]["baseline"]["cross"]) == {"7", "32"}
    assert evaluation["mean_accuracy"] == pytest.approx(sum(result["accuracy"]["final"]["cross"].values()) / 2)
    assert "wrote " in answer.err


def test_quiet_json_leaves_stderr_to_warnings(call: Octoscale, config: Path) -> None:
    answer = call("train", config, "--json", "--quiet")

    assert (answer.code, answer.err) == (0, "")
    assert events(answer)[-1]["event"] == "result"


def test_what_the_user_can_mend_is_an_event_too(call: Octoscale, config: Path) -> None:
    answer = call("train", config, "--json", "global_batch_size=50")

    refused(answer, "needs 25 identities")
    last = events(answer)[-1]
    assert last["event"] == "error"
    assert "needs 25 identities" in last["message"]


def test_packing_tells_its_stages_and_what_came_of_it(call: Octoscale, drawn_faces: Path, tmp_path: Path) -> None:
    told = events(call("pack", drawn_faces / "train", tmp_path / "packed", "--json"))

    stages = [(event["stage"], event["done"], event["total"]) for event in told if event["event"] == "progress"]
    assert stages == [("verify", 96, 96), ("write", 96, 96)]
    assert told[-1]["event"] == "packed"
    assert (told[-1]["images"], told[-1]["identities"], told[-1]["url"]) == (96, 24, str(tmp_path / "packed"))


def test_a_damaged_commit_is_verified_with_progress(call: Octoscale, config: Path, tmp_path: Path) -> None:
    assert call("train", config, "--quiet").code == 0

    told = events(call("checkpoints", "verify", tmp_path / "run", "--json"))
    assert [event["event"] for event in told] == ["progress", "commits"]

    told = events(call("checkpoints", "prune", tmp_path / "run", "--keep-last", 1, "--no-keep-best", "--json"))
    assert (told[0]["event"], len(told[0]["commits"]), told[0]["dry_run"]) == ("pruned", 1, False)
    told = events(call("checkpoints", "export", tmp_path / "run", tmp_path / "weights.pt", "--json"))
    assert told == [{"event": "exported", "path": str(tmp_path / "weights.pt"), "step": 4}]


def test_a_job_server_that_does_not_answer_is_told_after_the_sizes(call: Octoscale, config: Path) -> None:
    pytest.importorskip("ray")
    answer = call(
        "submit", config, "resilience.workers=2..4", "data.url=s3://bucket/faces", "directory=s3://bucket/run",
        "evaluate=null", "--address", "http://127.0.0.1:9", "--dry-run", "--json",
    )  # fmt: skip

    refused(answer, "no answer from a Ray cluster at http://127.0.0.1:9")
    assert "batch     16 images = 8 identities × 2 = 4 ranks × 4" in answer.err
    assert "elastic   also 2 × 8" in answer.err
    assert [event["event"] for event in events(answer)] == ["error"]


@pytest.mark.parametrize("option", ["--flip", "--no-flip"])
def test_an_evaluation_tells_of_every_image_that_goes_through_the_network(
    call: Octoscale, config: Path, option: str
) -> None:
    *progress, scores = events(call("evaluate", config, option, "--json"))

    assert {event["event"] for event in progress} == {"progress"}
    assert progress[-1]["done"] == progress[-1]["total"] > 0
    assert (scores["event"], scores["step"]) == ("scores", 0)
    assert [row["resolution"] for row in scores["scores"]] == [7, 32]


def test_a_folder_is_embedded_with_progress(call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path) -> None:
    told = events(call("embed", drawn_faces / "verify", tmp_path / "out.npz", "--network", config, "--flip", "--json"))

    progress, embedded = told[-2:]
    assert (progress["done"], progress["total"]) == (120, 120)
    assert embedded == {
        "event": "embedded", "path": str(tmp_path / "out.npz"), "images": 60, "embedding_dim": 16, "step": 0,
    }  # fmt: skip
