"""What is sent to a job server."""

import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import octoscale
from octoscale.config import Config, parse_config
from octoscale.errors import OctoscaleError
from octoscale.orchestrate.submission import plan_job, run_name


@pytest.fixture
def config(small_run: Any) -> Config:
    return parse_config(small_run("s3://bucket/runs/real_faces"), source="of the test")


def test_a_request_holds_the_command_the_named_variables_and_nothing_of_this_machine(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "value-of-the-secret")
    monkeypatch.setenv("REGION", "north")

    submission = plan_job(config, env=["REGION"], secrets=["MY_SECRET"]).attempt(3)

    assert submission.request == {
        "entrypoint": ': "${MY_SECRET:?is not in the cluster\'s environment}" && exec python -m octoscale.cli launch '
        "run.yaml --address auto",
        "submission_id": f"{run_name(config)}-3",
        "runtime_env": {
            "working_dir": submission.request["runtime_env"]["working_dir"],
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", "REGION": "north"},
        },
        "metadata": {
            "octoscale_run": run_name(config),
            "octoscale_attempt": "3",
            "directory": "s3://bucket/runs/real_faces",
            "workers": "1",
            "octoscale_version": octoscale.__version__,
        },
    }
    assert submission.id == f"{run_name(config)}-3"
    everything = submission.to_json().encode() + submission.package
    assert b"value-of-the-secret" not in everything


def test_the_package_is_the_resolved_configuration_and_the_code(config: Config) -> None:
    with zipfile.ZipFile(io.BytesIO(plan_job(config).attempt(1).package)) as archive:
        names = set(archive.namelist())
        sent = yaml.safe_load(archive.read("run.yaml"))
        train = archive.read("octoscale/train.py")
    root = Path(octoscale.__file__).parent
    files = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert names == {"run.yaml"} | {f"octoscale/{path.relative_to(root).as_posix()}" for path in files}
    assert train == (root / "train.py").read_bytes()
    assert parse_config(sent, source="sent") == config


def test_the_code_of_the_nodes_is_used_where_it_is_asked_for(config: Config) -> None:
    with zipfile.ZipFile(io.BytesIO(plan_job(config, installed=True).attempt(1).package)) as archive:
        assert archive.namelist() == ["run.yaml"]


def test_the_same_run_makes_the_same_bytes(config: Config) -> None:
    first, second = plan_job(config), plan_job(config)

    assert first == second
    assert first.attempt(1).to_json() == second.attempt(1).to_json()


def test_the_package_runs_by_itself(config: Config, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(plan_job(config).attempt(1).package)) as archive:
        archive.extractall(tmp_path)
    # The code that was unpacked, from a directory that is no checkout; the shell's check stops before it.
    entrypoint = plan_job(config, secrets=["ABSENT_HERE"]).attempt(1).request["entrypoint"]
    answer = subprocess.run(entrypoint, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode != 0
    assert "ABSENT_HERE: is not in the cluster's environment" in answer.stderr


def test_the_run_keeps_its_name_and_directories_differ(small_run: Any) -> None:
    def name(directory: str) -> str:
        return run_name(parse_config(small_run(directory), source="of the test"))

    assert name("s3://bucket/runs/real_faces") == name("s3://bucket/runs/real_faces/")
    assert name("s3://bucket/runs/real_faces").startswith("real_faces-")
    assert name("s3://bucket/runs/real_faces") != name("s3://other/runs/real_faces")
    assert name("s3://bucket/a b?ü").startswith("a-b-")


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("directory", {"directory": "runs/a"}),
        ("directory", {"directory": "~/runs/a"}),
        ("data.url", {"data": {"url": "data/faces"}}),
        ("model.weights", {"model": {"weights": "weights.pt"}}),
        ("checkpoint.url", {"checkpoint": {"url": "commits"}}),
        ("evaluate.pairs", {"evaluate": {"pairs": "pairs.txt", "images": "s3://bucket/verify"}}),
    ],
)
def test_a_path_that_the_cluster_cannot_see_is_named(small_run: Any, key: str, changes: dict[str, Any]) -> None:
    config = parse_config(small_run(**{"directory": "s3://bucket/a", **changes}), source="of the test")

    with pytest.raises(OctoscaleError, match=f"{key} is '.*', a path on this machine"):
        plan_job(config)


def test_a_batch_that_the_workers_cannot_share_is_refused_here(small_run: Any) -> None:
    with pytest.raises(OctoscaleError, match="global_batch_size 16 does not divide into whole pairs on 3 ranks"):
        plan_job(parse_config(small_run("s3://bucket/a", resilience={"workers": "3"}), source="of the test"))


def test_a_secret_in_the_configuration_is_refused_without_its_value(small_run: Any) -> None:
    config = parse_config(
        small_run("s3://bucket/a", model={"weights": "https://me:word@host/weights.pt"}), source="of the test"
    )

    with pytest.raises(OctoscaleError, match="the configuration's weights holds what looks like a secret") as refusal:
        plan_job(config)
    assert "word" not in str(refusal.value)


def test_a_dry_run_is_json_with_every_file_of_the_package(config: Config) -> None:
    submission = plan_job(config).attempt(1)

    document = json.loads(submission.to_json())

    assert document["request"] == submission.request
    assert document["package"]["bytes"] == len(submission.package)
    assert {"run.yaml", "octoscale/cli/entry.py"} <= document["package"]["files"].keys()
    assert yaml.safe_load(document["config"])["directory"] == "s3://bucket/runs/real_faces"
