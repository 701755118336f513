"""The faults: each lets one run of 30 steps meet one of them, and returns what it cost."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.train import train
from tests.integration.faults.lab import PORT, Lab, Outcome

STEPS, EVERY, STEP = 30, 10, 16
OUTAGE_SECONDS = 60
# Makes the values of a run in a directory.
Values = Callable[..., dict[str, Any]]
Play = Callable[[Lab, Values, str], Outcome]


def train_on_a_rank(world: World, values: dict[str, Any]) -> None:
    """One rank of a run that nothing happens to."""
    train(parse_config(values, source="of the test"), world, quiet=True)


@dataclass(frozen=True)
class Fault:
    """One fault of the lab; `same_world`: the world size is the same before and after it."""

    name: str
    play: Play
    same_world: bool = True


# AdamW would make steps of its learning rate out of the rounding in gradients that are zero (the last bias: distances
# do not depend on it).
OPTIMIZER = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9}


def values_in(values: Values, directory: str) -> dict[str, Any]:
    return values(directory, steps=STEPS, checkpoint={"every_steps": EVERY}, optimizer=OPTIMIZER)


def held(
    lab: Lab, values: Values, directory: str, workers: str, *, rank: int = 1, step: int = STEP
) -> "tuple[subprocess.Popen[str], int]":
    """A run one of whose ranks waits before `step` until the lab releases it, and the process of that rank."""
    lab.ensure_cluster("a", "b")
    lab.prepare(rank, step, "hold")
    run = lab.launch(values_in(values, directory), workers)
    return run, lab.held(run)


def to_a_rank(kind: str, *, rank: int = 1, step: int = STEP) -> Play:
    """What the rank does to itself."""

    def play(lab: Lab, values: Values, directory: str) -> Outcome:
        lab.ensure_cluster("a", "b")
        lab.prepare(rank, step, kind)
        lab.finish(lab.launch(values_in(values, directory), "2"))
        return lab.outcome(kind)

    return play


def node_killed(lab: Lab, values: Values, directory: str) -> Outcome:
    run, pid = held(lab, values, directory, "1..2")
    host = lab.net.host_of(pid)
    lab.mark("node killed")
    lab.kill_host(host)
    lab.finish(run)
    return lab.outcome("node killed")


def node_drained(lab: Lab, values: Values, directory: str) -> Outcome:
    """Ray is told that the node will be taken away in 20 s; it is."""
    run, pid = held(lab, values, directory, "1..2")
    host = lab.net.host_of(pid)
    lab.mark("drained")
    drain(lab, host, seconds=20)
    taken = time.monotonic() + 20
    # The ranks hear of it in the background, while the step is held.
    lab.wait(lambda: "will be taken away" in lab.told(), 60, lab.told, run)
    lab.release()
    lab.wait(lambda: "starting them again" in lab.told(), 60, lab.told, run)
    time.sleep(max(0.0, taken - time.monotonic()))
    lab.kill_host(host)
    lab.finish(run)
    return lab.outcome("drained")


def drain(lab: Lab, host: str, *, seconds: int) -> None:
    script = f"""
import time
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
gcs = GcsClient(address="{lab.net.address("head")}:{PORT}")
(node,) = [key for key, node in gcs.get_all_node_info().items()
           if node.node_manager_address == "{lab.net.address(host)}" and node.state == 0]
print(gcs.drain_node(node.hex(), DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, "taken away",
                     int(1000 * (time.time() + {seconds}))))
"""
    told = lab.on_the_head(script)
    assert "True" in told, told


def link_cut(lab: Lab, values: Values, directory: str) -> Outcome:
    """The host of rank 0 is silent; its link heals when the others are at work again."""
    run, pid = held(lab, values, directory, "1..2", rank=0)
    host = lab.net.host_of(pid)
    lab.mark("link cut")
    lab.net.cut(host)
    lab.release()
    lab.wait(lambda: any(line.world == 1 for line in lab.trace()), 180, lab.told, run)
    lab.net.heal(host)
    lab.finish(run)
    # Ray has given the node up; its processes are about to notice.
    lab.kill_host(host)
    return lab.outcome("link cut")


def store_killed(lab: Lab, values: Values, directory: str) -> Outcome:
    """The store refuses connections for a minute, in which a commit is due."""
    url = lab.new_bucket()
    run, _ = held(lab, values, url, "2")
    lab.mark("store killed")
    lab.kill_store()
    lab.release()
    time.sleep(OUTAGE_SECONDS)
    lab.open_store()
    lab.finish(run)
    lab.fetch(url, directory)
    lines = lab.trace()
    event = max(line.time for line in lines if line.event != "step")
    after_the_commit = min(line.time for line in lines if line.step == 2 * EVERY + 1)
    return replace(lab.outcome("store killed"), seconds=round(after_the_commit - event, 1))


def driver_killed(lab: Lab, values: Values, directory: str) -> Outcome:
    """The same command again, at once: what the dead driver had asked of Ray keeps no node from it."""
    run, _ = held(lab, values, directory, "1..2")
    lab.mark("driver killed")
    run.kill()
    run.wait(60)
    lab.release()
    lab.finish(lab.launch(values_in(values, directory), "1..2"))
    return lab.outcome("driver killed")


def head_killed(lab: Lab, values: Values, directory: str) -> Outcome:
    """A new cluster, and the same command again."""
    run, _ = held(lab, values, directory, "2")
    lab.mark("head killed")
    lab.kill_host("head")
    run.wait(60)
    lab.release()
    lab.ensure_cluster("a", "b")
    lab.finish(lab.launch(values_in(values, directory), "2"))
    return lab.outcome("head killed")


def disk_full(lab: Lab, values: Values, directory: str) -> Outcome:
    """The run ends with the cause; with room made, the same command goes on."""
    # Processes see what was mounted when they started.
    for host in ("a", "b", "head"):
        lab.kill_host(host)
    with small_disk(Path(directory)):
        run, _ = held(lab, values, directory, "2")
        filler = Path(directory) / "filler"
        # Unbuffered: nothing is left to write when the disk is full.
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        lab.release()
        told = lab.finish(run, code=1)
        assert "No space left on device" in told, told[-3000:]
        lab.mark("disk full")
        filler.unlink()
        lab.finish(lab.launch(values_in(values, directory), "2"))
        keep(directory)
        for host in ("a", "b", "head"):
            lab.kill_host(host)
    return lab.outcome("disk full")


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "octoscale-lab", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        kept = folder.with_name(f"{folder.name}-kept")
        if kept.exists():
            folder.rmdir()
            kept.rename(folder)


def keep(directory: str) -> None:
    """The run's files, for when the small disk is gone."""
    subprocess.run(["cp", "-a", directory, f"{directory}-kept"], check=True)


def newest_corrupt(lab: Lab, values: Values, directory: str) -> Outcome:
    """A bit of the newest commit flips, then a rank dies."""
    run, pid = held(lab, values, directory, "2", step=2 * EVERY + 6)
    # Commits go on beside the training.
    checkpoints = Path(directory) / "checkpoints"
    lab.wait(lambda: any(checkpoints.glob(f"commits/{2 * EVERY:08d}-*.json")), 60, lab.told, run)
    part = max(checkpoints.glob(f"step-{2 * EVERY:08d}-*/*"), key=lambda path: path.stat().st_size)
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    lab.mark("newest corrupt")
    os.kill(pid, signal.SIGKILL)
    told = lab.finish(run)
    assert "is damaged" in told, told[-3000:]
    return lab.outcome("newest corrupt")


FAULTS = [
    Fault("rank killed (SIGKILL)", to_a_rank("kill")),
    Fault("rank asked to end (SIGTERM)", to_a_rank("term")),
    Fault("rank stopped (SIGSTOP)", to_a_rank("stop")),
    Fault("exception in a rank", to_a_rank("raise")),
    Fault("slow rank", to_a_rank("slow", step=25)),
    Fault("killed before a part is written", to_a_rank("part", rank=0, step=20)),
    Fault("killed before the manifest", to_a_rank("manifest", rank=0, step=20)),
    Fault("killed before the commit point", to_a_rank("before-commit", rank=0, step=20)),
    Fault("killed after the commit point", to_a_rank("after-commit", rank=0, step=20)),
    Fault("newest checkpoint corrupt, rank killed", newest_corrupt),
    Fault("node killed, no replacement", node_killed, same_world=False),
    Fault("node drained, 20 s notice", node_drained, same_world=False),
    Fault("link cut, healed later", link_cut, same_world=False),
    Fault("store down for a minute", store_killed),
    Fault("driver killed, launched again", driver_killed),
    Fault("head killed, cluster and run started again", head_killed),
    Fault("disk full, room made, launched again", disk_full),
]
