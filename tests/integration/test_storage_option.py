"""Commands that are given URLs alone reach an object store by `--storage`: nothing else leads there."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from tests.conftest import SmallRun
from tests.integration.conftest import put_object
from tests.unit.commands import Answer, Octoscale, refused


@pytest.fixture
def server(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """KEY=VALUE that leads to the server, which the AWS chain does not know."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return f"endpoint_url={s3_server}"


def last(answer: Answer) -> dict[str, Any]:
    """The last object of an answer with ``--json``."""
    assert answer.code == 0, answer
    found: dict[str, Any] = json.loads(answer.out.splitlines()[-1])
    return found


def test_a_run_on_object_storage_from_the_packing_to_the_pruning(
    call: Octoscale, server: str, s3_server: str, s3_url: str, drawn_faces: Path, small_run: SmallRun, tmp_path: Path
) -> None:
    data, run = f"{s3_url}/faces", f"{s3_url}/run"
    there = ("--storage", server)
    left_out = min(person.name for person in (drawn_faces / "train").iterdir())
    put_object(s3_server, f"{s3_url.removeprefix('s3://')}/lists/out.txt", f"{left_out}\n".encode())

    packed = last(call(
        "pack", drawn_faces / "train", data, "--exclude", f"{s3_url}/lists/out.txt", *there, "--json"
    ))  # fmt: skip
    assert packed["images"] == 92
    assert last(call("inspect", data, *there, "--json"))["fingerprint"] == packed["fingerprint"]
    assert last(call("index", data, "--overwrite", *there, "--json"))["images"] == 92

    verify = drawn_faces / "verify"
    evaluate = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32], "bootstrap": 0}
    config = tmp_path / "run.yaml"
    values = small_run(run, data={"url": data}, evaluate=evaluate, checkpoint={"every_steps": 2, "keep_last": 3})
    config.write_text(yaml.safe_dump(values))
    assert call("train", config, f"storage.{server}", "--quiet").code == 0

    assert last(call("top", run, "--once", *there, "--json"))["step"] == 4
    (table, _) = last(call("compare", run, *there, "--json"))["tables"]
    assert [row["step"] for row in table["rows"]] == [0, 4]
    assert call("report", run, "--output", f"{s3_url}/page.html", *there).code == 0
    commits = last(call("checkpoints", "list", run, *there, "--json"))["commits"]
    assert [commit["step"] for commit in commits] == [2, 4]
    verified = last(call("checkpoints", "verify", run, *there, "--json"))["commits"]
    assert {commit["state"] for commit in verified} == {"whole"}
    assert last(call("checkpoints", "export", run, tmp_path / "weights.pt", *there, "--json"))["step"] == 4
    pruned = last(call("checkpoints", "prune", run, "--keep-last", "1", "--no-keep-best", *there, "--json"))
    assert len(pruned["commits"]) == 1

    elsewhere = ("--storage", "endpoint_url=http://127.0.0.1:9")
    at_once = ("--storage", "timeout_seconds=1", "--storage", "deadline_seconds=1")
    refused(call("checkpoints", "list", run, *elsewhere, *at_once), "127.0.0.1:9")


def test_what_does_not_fit_is_refused(call: Octoscale, tmp_path: Path) -> None:
    refused(
        call("compare", "s3://bucket/run", "--storage", "endpoint=http://minio:9000"),
        "storage.endpoint",
        "endpoint_url",
    )


def test_a_configuration_is_read_there(call: Octoscale, server: str, s3_url: str, small_run: SmallRun) -> None:
    values = small_run(f"{s3_url}/run", model={"name": "tiny"})
    Store(s3_url, StorageConfig(endpoint_url=server.partition("=")[2])).write(
        "run.yaml", yaml.safe_dump(values).encode()
    )

    shown = last(call("config", "show", f"{s3_url}/run.yaml", f"storage.{server}", "--json"))

    assert shown["config"]["directory"] == f"{s3_url}/run"
    refused(call("config", "show", f"{s3_url}/absent.yaml", f"storage.{server}"), "absent.yaml")
