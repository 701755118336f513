"""What `--storage` is refused for: with local places alone it would be ignored."""

from pathlib import Path

import pytest
import yaml

from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.train import train
from tests.conftest import SmallRun
from tests.unit.commands import Octoscale, refused


@pytest.fixture
def run(small_run: SmallRun, tmp_path: Path) -> Path:
    """The directory of a run with a commit; everything of it is local."""
    train(parse_config(small_run(tmp_path / "run"), source="of the test"), World(), quiet=True)
    return tmp_path / "run"


def test_local_places_are_named_without_the_settings_value(call: Octoscale, tmp_path: Path) -> None:
    answer = call("inspect", tmp_path, "--storage", "connections=4")
    refused(answer, "--storage connections is of object storage", tmp_path, "is local")

    answer = call("inspect", tmp_path, "--storage", "endpoint_url=http://me:secret@host")
    refused(answer, "holds a user or a password")
    assert "secret" not in answer.err


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:9"])
def test_the_address_of_metrics_has_none(call: Octoscale, address: str) -> None:
    refused(call("top", address, "--storage", "connections=4"), "--storage", "address of its metrics")


@pytest.mark.parametrize(
    "command",
    [
        ("checkpoints", "list"), ("checkpoints", "verify"), ("checkpoints", "export"), ("checkpoints", "prune"),
        ("report",), ("top",),
    ],
)  # fmt: skip
def test_a_run_that_is_local_as_a_whole_has_none(
    call: Octoscale, run: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    more: dict[str, tuple[str | Path, ...]] = {
        "export": (tmp_path / "w.pt",), "prune": ("--keep-last", "1"), "report": ("--output", tmp_path / "r.html"),
    }  # fmt: skip
    answer = call(*command, run, *more.get(command[-1], ()), "--storage", "connections=4")

    refused(answer, "--storage", "is of object storage", run, "leave it out")
    assert not list(tmp_path.glob("*.*"))


def test_a_local_run_on_data_elsewhere_has_it(call: Octoscale, run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"data": {"url": "s3://bucket/faces"}}))

    assert call("report", run, "--output", tmp_path / "r.html", "--storage", "connections=4").code == 0
