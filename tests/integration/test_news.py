"""What rank 0 tells under Ray reaches the driver: its events, to the last one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import SmallRun

pytest.importorskip("ray")


@pytest.mark.slow
def test_a_launch_tells_every_event_of_its_run(tmp_path: Path, small_run: SmallRun) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "run", steps=30, checkpoint={"every_steps": 10})))
    command = [sys.executable, "-m", "octoscale.cli", "launch", str(file), "--workers", "2", "--json"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=200)

    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert told[0]["event"] == "geometry"
    assert (told[0]["world_size"], told[0]["rank_batch_size"], told[0]["images"]) == (2, 8, 96)
    assert [event["step"] for event in told if event["event"] == "step"] == list(range(1, 31))
    assert sorted(event["step"] for event in told if event["event"] == "commit") == [10, 20, 30]
    assert (told[-1]["event"], told[-1]["status"], told[-1]["step"]) == ("result", "finished", 30)
    # What is known before Ray starts, then from rank 0 with its data set.
    assert ended.stderr.count("batch     16 images = 8 identities × 2 = 2 ranks × 8") == 2
    assert "step 30 of 30  loss " in ended.stderr
