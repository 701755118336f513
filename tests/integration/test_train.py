"""The command in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from octoscale.data.storage import Store
from octoscale.errors import EXIT_INTERRUPTED
from octoscale.journal import read_journal
from tests.conftest import SmallRun


def test_sigterm_to_every_process_of_the_job_commits_and_exits_with_75(small_run: SmallRun, tmp_path: Path) -> None:
    """As a scheduler sends it: the processes that decode get it too."""
    values = small_run(tmp_path / "run", steps=100_000, checkpoint={"every_steps": 3})
    values["data"]["workers"] = 1
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    process = subprocess.Popen(
        [sys.executable, "-m", "octoscale.cli", "train", str(tmp_path / "run.yaml")],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    commits = Store(str(tmp_path / "run/checkpoints/commits"))
    deadline = time.monotonic() + 120
    try:
        while not commits.list():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "no commit in 120 s"
            time.sleep(0.05)

        os.killpg(process.pid, signal.SIGTERM)
        _, log = process.communicate(timeout=120)
    finally:
        process.kill()

    assert process.returncode == EXIT_INTERRUPTED, log
    last = read_journal(Store(str(tmp_path / "run")))[-1].step
    assert f"step {last} is committed; start the same run again" in log
    assert f"{last:08d}-000001.json" in commits.list()
