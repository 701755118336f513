"""`octoscale top` follows a real run that is killed and started again."""

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from octoscale.errors import EXIT_INTERRUPTED
from octoscale.top.look import Look, Watch
from octoscale.top.screen import render
from octoscale.top.sources import source_of
from tests.conftest import SmallRun

DEADLINE_SECONDS = 120


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
    """What the command shows, look by look."""

    def __init__(self, directory: Path) -> None:
        self._source = source_of(str(directory))
        self._watch = Watch()

    def until(self, is_it: Callable[[Look], Any]) -> Look:
        """The first look that is it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            look = self._watch.take(self._source.look(2))
            if is_it(look):
                return look
            assert time.monotonic() < deadline, look
            time.sleep(0.2)


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
        look = top.until(lambda look: look.checkpoint_age_seconds is not None and look.images_per_second)
        assert (look.steps, look.attempt, look.restarts, look.world_size) == (1_000_000, 1, 0, 1)
        assert look.eta_seconds is not None
        assert look.eta_seconds > 0
        assert set(look.terms) == {"hhh", "hll", "lhh", "lll"}
        assert look.embedding_effective_rank is not None
        assert 1 <= look.embedding_effective_rank <= 16
        (rank,) = look.ranks
        assert rank.fault is None
        assert sum(rank.phases.values()) > 0.999

        first.kill()
        look = top.until(lambda look: look.ranks and look.ranks[0].fault is not None)
        assert (look.ranks[0].rank, look.ranks[0].address, look.step) == (0, rank.address, None)

    with training(file, log) as second:
        look = top.until(lambda look: look.attempt == 2 and look.step is not None and look.goodput_ratio is not None)
        assert look.restarts == 1
        assert look.ranks[0].address != rank.address
        shown = io.StringIO()
        Console(file=shown, width=120).print(render(look, colours=False))
        assert "1 rank · attempt 2, 1 restart · goodput " in shown.getvalue()
        second.terminate()
        assert second.wait(DEADLINE_SECONDS) == EXIT_INTERRUPTED, log.read_text()

    # Its target is gone, and the journal is what is left.
    look = top.until(lambda look: not look.is_live)
    assert look.step is not None
    assert look.step > 5
