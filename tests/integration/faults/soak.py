"""One long run that meets one random fault after another: ``python -m tests.integration.faults.soak [--faults 50]``."""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.faults.faults import OPTIMIZER, Values
from tests.integration.faults.lab import Lab, Traced, lab
from tests.integration.faults.measure import runs_on
from tests.integration.faults.network import why_not

EVERY = 10
# Steps that the run gets on from one fault to the next.
BETWEEN = (5, 25)
# How often each comes.
WEIGHTS = {"kill": 12, "term": 3, "node": 2, "stop": 2, "cut": 1}


@dataclass
class Soaked:
    """What the faults cost, and what was there after the third of them and at the end.

    Attributes:
        seconds: from each fault to the first step of new workers.
        files: under the run's checkpoints.
        processes: of the run's workers' hosts.
        driver_bytes: memory of `octoscale launch`.
    """

    kinds: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    driver_bytes: list[int] = field(default_factory=list)


def steps_of(faults: int) -> int:
    return faults * (BETWEEN[1] + 5) + 2 * EVERY


def values_of(values: Values, directory: str, faults: int) -> dict[str, Any]:
    return values(
        directory, steps=steps_of(faults), checkpoint={"every_steps": EVERY}, optimizer=OPTIMIZER,
        resilience={"max_failures": 10 * faults},
    )  # fmt: skip


def soak(lab: Lab, values: Values, directory: str, *, faults: int, seed: int, tell: Callable[[str], None]) -> Soaked:
    """Let one run meet `faults` faults; it has ended in good order."""
    dice, found = random.Random(seed), Soaked()
    lab.ensure_cluster("a", "b")
    lab.prepare(0, 0, "none")
    run = lab.launch(values_of(values, directory, faults), "2")
    reached = 0
    for number in range(faults):
        due = reached + dice.randint(*BETWEEN)
        lab.wait(lambda due=due: newest(lab.trace()) >= due, 240, lab.told, run)  # type: ignore[misc]
        if number == 3:
            look(lab, run, directory, found)
        lines = lab.trace()
        reached, old = newest(lines), {line.pid for line in lines}
        (kind,) = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
        started = time.monotonic()
        strike(lab, kind, pid_of(lines, dice.randrange(2)))
        lab.wait(lambda old=old: any(line.pid not in old for line in lab.trace()), 240, lab.told, run)  # type: ignore[misc]
        found.kinds.append(kind)
        found.seconds.append(round(time.monotonic() - started, 1))
        tell(f"{number + 1}/{faults} {kind} at step {reached}: {found.seconds[-1]} s")
    look(lab, run, directory, found)
    lab.finish(run, seconds=900)
    return found


def newest(lines: list[Traced]) -> int:
    return max((line.step for line in lines), default=0)


def pid_of(lines: list[Traced], rank: int) -> int:
    """The process that was this rank last."""
    return next(line.pid for line in reversed(lines) if line.event == "step" and line.rank == rank)


def strike(lab: Lab, kind: str, pid: int) -> None:
    """What happens to the process, or to its host, which comes back."""
    signals = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
    if kind in signals:
        os.kill(pid, signals[kind])
        return
    host = lab.net.host_of(pid)
    if kind == "cut":
        lab.net.cut(host)
        time.sleep(10)
    lab.kill_host(host)
    lab.net.heal(host)
    lab.start_node(host)


def look(lab: Lab, run: "subprocess.Popen[str]", directory: str, found: Soaked) -> None:
    found.files.append(sum(path.is_file() for path in (Path(directory) / "checkpoints").rglob("*")))
    found.processes.append(sum(len(lab.net.processes(host)) for host in ("a", "b")))
    pages = int(Path(f"/proc/{run.pid}/statm").read_text().split()[1])
    found.driver_bytes.append(pages * os.sysconf("SC_PAGE_SIZE"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if (reason := why_not()) is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder, lab() as made:
        found = soak(
            made, runs_on(Path(folder)), str(made.folder / "run"), faults=arguments.faults, seed=arguments.seed,
            tell=lambda text: print(text, file=sys.stderr, flush=True),
        )  # fmt: skip
    print(json.dumps({**asdict(found), "seconds_median": statistics.median(found.seconds)}, indent=1))


if __name__ == "__main__":
    main()
