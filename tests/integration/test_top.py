"""`octoscale top` follows a real run that is killed and started again."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from octoscale.errors import EXIT_INTERRUPTED
from tests.conftest import SmallRun

DEADLINE_SECONDS = 60

Look = dict[str, Any]


@contextmanager
def training(file: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", "octoscale.cli", "train", str(file)], stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Top:
    """The command with ``--json``, look by look."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "octoscale.cli", "top", str(directory), "--every", "0.3", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def until(self, is_it: Callable[[Look], bool]) -> Look:
        """The first look that is it."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        seen = None
        while time.monotonic() < deadline:
            line = self.process.stdout.readline()
            assert line, self.process.communicate()
            seen = json.loads(line)
            assert seen["event"] == "look"
            if is_it(seen):
                return seen  # type: ignore[no-any-return]
        raise AssertionError(f"not seen in {DEADLINE_SECONDS} s; the last look: {seen}")


def test_a_run_that_is_killed_and_started_again_is_followed(tmp_path: Path, small_run: SmallRun) -> None:
    directory, file, log = tmp_path / "run", tmp_path / "run.yaml", tmp_path / "log"
    values = small_run(
        directory, steps=1_000_000, telemetry={"recorders": ["prometheus"], "diagnose_every_steps": 1},
        checkpoint={"every_steps": 5},
    )  # fmt: skip
    file.write_text(yaml.safe_dump(values))

    with training(file, log) as first:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (directory / "config.yaml").exists():
            assert first.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        top = Top(directory)
        try:
            look = top.until(lambda look: look["checkpoint_age_seconds"] is not None and look["images_per_second"])
            assert (look["steps"], look["attempt"], look["restarts"], look["world_size"]) == (1_000_000, 1, 0, 1)
            assert look["eta_seconds"] > 0
            assert set(look["terms"]) == {"hhh", "hll", "lhh", "lll"}
            assert 1 <= look["embedding_effective_rank"] <= 16
            (rank,) = look["ranks"]
            assert rank["fault"] is None
            assert sum(rank["phases"].values()) > 0.999
            address = rank["address"]

            first.kill()
            look = top.until(lambda look: look["ranks"] and look["ranks"][0]["fault"] is not None)
            assert (look["ranks"][0]["rank"], look["ranks"][0]["address"]) == (0, address)
            assert look["step"] is None

            with training(file, log) as second:
                look = top.until(lambda look: look["attempt"] == 2 and look["step"] is not None)
                assert look["restarts"] == 1
                assert look["ranks"][0]["address"] != address
                shown = subprocess.run(
                    [sys.executable, "-m", "octoscale.cli", "top", str(directory), "--once"],
                    capture_output=True, text=True, timeout=DEADLINE_SECONDS,
                )  # fmt: skip
                assert shown.returncode == 0, shown.stderr
                assert "1 rank · attempt 2, 1 restart · goodput " in shown.stdout
                second.terminate()
                assert second.wait(DEADLINE_SECONDS) == EXIT_INTERRUPTED, log.read_text()

            # Its target is gone, and the journal is what is left.
            look = top.until(lambda look: not look["is_live"])
            assert look["step"] > 5
        finally:
            top.process.kill()
            top.process.communicate()
