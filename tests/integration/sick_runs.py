"""Real runs of the tiny network in processes of their own, healthy or made sick on purpose."""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import octoscale.step
import octoscale.train
from octoscale.config import parse_config
from octoscale.data.reader import ImageReader
from octoscale.distributed.world import World
from octoscale.telemetry.logging import set_up_logging
from octoscale.train import train
from tests.distributed.ranks import loopback

# So many runs at once on a few cores: their steps are mostly sleep.
STEP_SECONDS = 0.25


class Run:
    """The ranks of one attempt, started together."""

    def __init__(
        self, values: dict[str, Any], *, sickness: str | None = None, world_size: int = 1,
        environment: Mapping[str, str] | None = None, step_seconds: float = STEP_SECONDS,
    ) -> None:  # fmt: skip
        """`sickness`: one of `SICKNESSES`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["octoscale.train", __name__])
        directory = Path(values["directory"] if "://" not in values["directory"] else values["telemetry"]["folder"])
        directory.mkdir(parents=True, exist_ok=True)
        rendezvous = directory / f"rendezvous-{time.monotonic_ns()}"
        self._log = directory / f"attempt-{time.monotonic_ns()}.log"
        self.ranks: list[ForkServerProcess] = [
            context.Process(
                target=_rank,
                args=(values, sickness, rank, world_size, str(rendezvous), dict(environment or {}), step_seconds,
                      str(self._log)),
                daemon=True,
            )
            for rank in range(world_size)
        ]  # fmt: skip
        for process in self.ranks:
            process.start()

    @property
    def alive(self) -> bool:
        return all(process.is_alive() for process in self.ranks)

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def signal(self, signum: int, rank: int = 0) -> None:
        pid = self.ranks[rank].pid
        assert pid is not None
        os.kill(pid, signum)

    def wait(self, timeout_seconds: float = 120) -> None:
        """Until all ranks have ended, whatever the way."""
        for process in self.ranks:
            process.join(timeout_seconds)
            assert process.exitcode is not None, self.log

    def kill(self) -> None:
        """Every rank, kill -9."""
        for process in self.ranks:
            process.kill()
            process.join()


@contextmanager
def running(*runs: Run) -> Iterator[None]:
    """Kill what is left of `runs` at the end."""
    try:
        yield
    finally:
        for run in runs:
            run.kill()


def _rank(
    values: dict[str, Any], sickness: str | None, rank: int, world_size: int, rendezvous: str,
    environment: dict[str, str], step_seconds: float, log: str,
) -> None:  # fmt: skip
    os.environ.update(environment, GLOO_SOCKET_IFNAME=loopback())
    torch.set_num_threads(1)
    set_up_logging(rank=rank, world_size=world_size)
    handler = logging.FileHandler(log)
    logging.getLogger("octoscale").handlers[:] = [handler]
    slow_down(octoscale.train, "training_step", step_seconds)
    if sickness is not None:
        SICKNESSES[sickness](rank)
    if world_size > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    try:
        train(parse_config(values, source="of the test"), World(rank, rank, world_size, world_size), quiet=True)
    except Exception:
        logging.getLogger("octoscale").exception("rank %d ends", rank)
        # Not the way of the interpreter's end: gloo's threads wait for a rank that is no more.
        os._exit(1)


def slow_down(owner: Any, name: str, seconds: float) -> None:
    """Let each call of the function `name` of `owner` take so much longer."""
    original = getattr(owner, name)

    @wraps(original)
    def slower(*arguments: Any, **settings: Any) -> Any:
        time.sleep(seconds)
        return original(*arguments, **settings)

    setattr(owner, name, slower)


def _starve(rank: int) -> None:
    slow_down(ImageReader, "read_batch", 4 * STEP_SECONDS)


def _straggle(rank: int) -> None:
    if rank == 1:
        slow_down(octoscale.step, "augment", 2 * STEP_SECONDS)


SICKNESSES: dict[str, Callable[[int], None]] = {"stalled loader": _starve, "slow rank 1": _straggle}
