"""Where a run goes on. That it goes on to the bit is in tests/integration/test_resume.py."""

from pathlib import Path
from typing import Any

import pytest

from octoscale.build import build_engine, build_network
from octoscale.checkpoint import CheckpointConfig, Checkpoints, Position
from octoscale.config import Config, parse_config
from octoscale.data.index import Index
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.resume import resume, run_record
from octoscale.telemetry.metrics import Metrics
from tests.conftest import SmallRun


class Attempt:
    """One start of a small run, up to its first step."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.config: Config = parse_config(values, source="of the test")
        self.network = build_network(self.config, World())
        self.engine = build_engine(self.config, self.network, World())
        self.checkpoints = Checkpoints(f"{self.config.directory}/checkpoints", World(), CheckpointConfig(keep_last=3))
        self.record = run_record(self.config, Index.load(self.config.data.url))
        self.metrics = Metrics(run="test", rank=0)

    def resume(self) -> Position:
        return resume(self.checkpoints, self.engine, self.record, self.metrics)

    def commit(self, step: int) -> None:
        """With weights that tell the step."""
        for parameter in self.network.parameters():
            parameter.data.fill_(step)
        self.checkpoints.commit(self.engine.state_dict(), Position(step, 1, step, 16 * step), self.record, None)
        self.checkpoints.wait()

    def weight(self) -> float:
        return float(next(self.network.parameters()).detach().flatten()[0])


def test_a_run_without_commits_starts_at_the_start(small_run: SmallRun, tmp_path: Path) -> None:
    attempt = Attempt(small_run(tmp_path))
    before = attempt.weight()

    assert attempt.resume() == Position()
    assert attempt.weight() == before


def test_the_newest_commit_gives_its_weights_and_its_position(small_run: SmallRun, tmp_path: Path) -> None:
    first = Attempt(small_run(tmp_path))
    first.commit(1)
    first.commit(2)
    second = Attempt(small_run(tmp_path))

    assert second.resume() == Position(2, 1, 2, 32)
    assert second.weight() == 2


@pytest.mark.parametrize("damage", ["part", "manifest", "commit"])
def test_damage_falls_back_warns_counts_and_frees_the_step(
    small_run: SmallRun, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = Attempt(small_run(tmp_path))
    for step in (1, 2, 3):
        first.commit(step)
    folder = tmp_path / "checkpoints"
    for step in (2, 3):
        (parts,) = folder.glob(f"step-{step:08d}-*")
        {
            "part": lambda parts=parts: next(parts.glob("*.distcp")).write_bytes(b"no"),
            "manifest": lambda parts=parts: (parts / "manifest.json").unlink(),
            "commit": lambda step=step: (folder / f"commits/{step:08d}-000001.json").write_text("{"),
        }[damage]()
    second = Attempt(small_run(tmp_path))

    assert second.resume().step == 1
    assert second.weight() == 1
    for step in (2, 3):
        assert f"commits/{step:08d}-000001.json is damaged" in caplog.text
    counted = second.metrics.registry.get_sample_value(
        "octoscale_checkpoint_corrupt_total", {"run": "test", "rank": "0"}
    )
    assert counted == (0 if damage == "commit" else 2)
    second.commit(2)
    third = Attempt(small_run(tmp_path))
    assert third.resume().step == 2


def test_a_storage_that_does_not_answer_stops_the_run_and_costs_no_commit(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Attempt(small_run(tmp_path)).commit(1)

    def busy(self: Store, name: str, local_path: Path) -> None:
        raise OctoscaleError(f"cannot read {name}: the server is busy")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "download", busy)
        with pytest.raises(OctoscaleError, match="the server is busy"):
            Attempt(small_run(tmp_path)).resume()

    assert Attempt(small_run(tmp_path)).resume().step == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 8}, r"seed was 7, is 8"),
        ({"global_batch_size": 8}, r"global_batch_size was 16, is 8"),
        ({"optimizer": {"name": "sgd"}}, r"optimizer\.name was adamw, is sgd"),
        ({"seed": 8, "global_batch_size": 8}, r"seed was 7, is 8; global_batch_size was 16, is 8"),
    ],
)
def test_another_run_is_refused_with_both_values_and_what_to_do(
    small_run: SmallRun, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    Attempt(small_run(tmp_path)).commit(1)

    with pytest.raises(OctoscaleError, match=rf"{message}.*`directory` of its own, or set these back"):
        Attempt(small_run(tmp_path, **changes)).resume()
    assert Attempt(small_run(tmp_path)).resume().step == 1


def test_another_width_of_the_network_is_a_clear_error(small_run: SmallRun, tmp_path: Path) -> None:
    Attempt(small_run(tmp_path)).commit(1)

    with pytest.raises(OctoscaleError, match=r"step 1 in .* is not this network's: .*set `model` back") as raised:
        Attempt(small_run(tmp_path, model={"embedding_dim": 8})).resume()
    assert "Traceback" not in str(raised.value)


def test_everything_else_may_change_and_is_told(
    small_run: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Attempt(small_run(tmp_path)).commit(1)

    changed = small_run(tmp_path, steps=9, loss={"margin": 2.0}, optimizer={"learning_rate": 0.5})
    assert Attempt(changed).resume().step == 1

    for text in ("optimizer.learning_rate changed from 0.001 to 0.5", "loss.margin changed from 1.0 to 2.0",
                 "steps changed from 4 to 9"):  # fmt: skip
        assert f"since the commit {text}" in caplog.text
    assert caplog.text.count("changed from") == 3
