"""A run that was killed, stopped or continued is the run that was never disturbed, bit for bit."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octoscale.checkpoint import CheckpointConfig, Checkpoints
from octoscale.config import parse_config
from octoscale.data.pack import pack
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import EXIT_INTERRUPTED, OctoscaleError
from octoscale.journal import StepLine, read_journal
from octoscale.train import Summary, train


def run(values: dict[str, Any]) -> Summary:
    return train(parse_config(values, source="of the test"), World(), quiet=True)


def told(line: StepLine) -> tuple[int, int, float, float]:
    """What must be equal to the last bit; times may differ."""
    return line.step, line.sample_ids_crc32, line.result.loss, line.result.gradient_norm


def journal(directory: Path) -> list[tuple[int, int, float, float]]:
    return [told(line) for line in read_journal(Store(str(directory)))]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(directory / "weights.pt", weights_only=True)
    return loaded


def assert_same_run(found: Path, expected: Path) -> None:
    assert journal(found) == journal(expected)
    for name, value in weights(expected).items():
        assert torch.equal(weights(found)[name], value), name


def newest_step(directory: Path) -> int:
    commits = Checkpoints(str(directory / "checkpoints"), World(), CheckpointConfig()).commits()
    return commits[-1].step if commits else 0


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "adamw"}, "model": {"batch_norm": "chunk"}},
        {"optimizer": {"name": "sgd", "weight_decay": 1e-4}},
        {"optimizer": {"name": "adagrad"}, "schedule": {"name": "cosine", "warmup_steps": 3}},
        {"precision": "bf16"},
        {"precision": "fp16", "micro_batch_size": 5},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_five_steps_and_five_more_equal_ten(tmp_path: Path, small_run: Any, changes: dict[str, Any]) -> None:
    # 96 images in batches of 16: the tenth step is in the second epoch.
    values = small_run(tmp_path / "whole", steps=10, checkpoint={"every_steps": 5}, **changes)
    run(values)
    resumed = {**values, "directory": str(tmp_path / "resumed")}
    # Stopped after five: the schedule must not know, so the length stays what it is.
    config = parse_config(resumed, source="of the test")
    _train_until(config, 5)
    assert newest_step(tmp_path / "resumed") == 5
    run(resumed)
    assert_same_run(tmp_path / "resumed", tmp_path / "whole")


def _train_until(config: Any, step: int) -> None:
    """Train, and end as a killed process does: without a word, right after the commit of `step`."""

    class Killed(BaseException):
        pass

    commit = Checkpoints.commit

    def killing(self: Checkpoints, state: Any, position: Any, *arguments: Any, **settings: Any) -> None:
        commit(self, state, position, *arguments, **settings)
        if position.step == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "commit", killing)
        with pytest.raises(Killed):
            train(config, World(), quiet=True)


def start(values: dict[str, Any], file: Path) -> "subprocess.Popen[str]":
    file.write_text(yaml.safe_dump(values))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "octoscale.cli", "train", str(file)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_a_commit(directory: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not newest_step(directory):
        assert process.poll() is None, process.communicate()[1]
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no commit in 120 s: {process.communicate()[1]}")
        time.sleep(0.1)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, small_run: Any) -> None:
    values = small_run(tmp_path / "killed", steps=5000, checkpoint={"every_steps": 5})
    process = start(values, tmp_path / "run.yaml")
    wait_for_a_commit(tmp_path / "killed", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    steps = newest_step(tmp_path / "killed") + 5
    with_single_thread(lambda: run({**values, "steps": steps}))
    with_single_thread(lambda: run({**values, "steps": steps, "directory": str(tmp_path / "whole")}))
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def with_single_thread(function: Any) -> None:
    """As the killed process ran: another number of threads sums in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        function()
    finally:
        torch.set_num_threads(threads)


def test_sigterm_commits_and_exits_with_75(tmp_path: Path, small_run: Any) -> None:
    values = small_run(tmp_path / "out", steps=5000, checkpoint={"every_steps": 5})
    process = start(values, tmp_path / "run.yaml")
    wait_for_a_commit(tmp_path / "out", process)
    process.terminate()
    _, log = process.communicate(timeout=120)
    assert process.returncode == EXIT_INTERRUPTED, log
    step = newest_step(tmp_path / "out")
    assert f"step {step} is committed; start the same run again" in log
    # Every step up to the commit is in the journal, and the run can go on.
    assert [line[0] for line in journal(tmp_path / "out")] == list(range(1, step + 1))
    assert run({**values, "steps": step + 2}).position.step == step + 2


def test_a_damaged_newest_commit_costs_its_steps_and_not_the_run(tmp_path: Path, small_run: Any) -> None:
    values = small_run(tmp_path / "out", steps=6, checkpoint={"every_steps": 2, "keep_last": 3})
    run(values)
    expected = journal(tmp_path / "out")
    newest = Checkpoints(str(tmp_path / "out" / "checkpoints"), World(), CheckpointConfig()).commits()[-1]
    part = next((tmp_path / "out" / "checkpoints" / newest.prefix).glob("*.distcp"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert run(values).position.step == 6
    assert journal(tmp_path / "out") == expected


def test_a_finished_run_does_nothing_more(tmp_path: Path, small_run: Any) -> None:
    values = small_run(tmp_path / "out")
    run(values)
    before = journal(tmp_path / "out")
    assert run(values).status == "finished"
    assert journal(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"global_batch_size": 32}, "global_batch_size was 16, is 32"),
        ({"seed": 8}, "seed was 7, is 8"),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name was adamw, is sgd"),
    ],
)
def test_another_geometry_is_refused_with_both_values(
    tmp_path: Path, small_run: Any, change: dict[str, Any], message: str
) -> None:
    run(small_run(tmp_path / "out"))
    with pytest.raises(OctoscaleError, match=message):
        run(small_run(tmp_path / "out", steps=6, **change))


def test_another_data_set_is_refused(tmp_path: Path, small_run: Any, drawn_faces: Path) -> None:
    run(small_run(tmp_path / "out"))
    pack(str(drawn_faces / "verify"), str(tmp_path / "other"))
    with pytest.raises(OctoscaleError, match=r"data fingerprint was \w+, is \w+.*`directory` of its own"):
        run(small_run(tmp_path / "out", data={"url": str(tmp_path / "other")}))


def test_another_learning_rate_is_allowed_and_told(
    tmp_path: Path, small_run: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small_run(tmp_path / "out"))
    monkeypatch.setattr(logging.getLogger("octoscale"), "propagate", True)
    run(small_run(tmp_path / "out", steps=5, optimizer={"learning_rate": 1e-4}))
    assert "optimizer.learning_rate changed from 0.001 to 0.0001" in caplog.text
