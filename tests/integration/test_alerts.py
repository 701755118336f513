"""The shipped alerts on real runs: each fires on one that was made sick on purpose, and none on a healthy one.

Prometheus scrapes the runs by their targets' files. The hours of the rules pass `FACTOR` times as fast, an hour in 36
seconds; thresholds are as shipped.
"""

import shutil
import signal
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from octoscale.data.index import Index
from octoscale.data.pack import pack
from tests.conftest import small_run_values
from tests.integration.conftest import put_object
from tests.integration.fault_proxy import FORBIDDEN, SLOW_DOWN, Rule, faulty
from tests.integration.monitoring import DEADLINE_SECONDS, RULES, Ask, fired, needs_prometheus, prometheus, wait_for
from tests.integration.sick_runs import Run, running

pytestmark = needs_prometheus

FACTOR = 100
Fired = set[tuple[str, str, str]]

# What is wrong with each run, and the alerts that say so, with the rank where it is one rank's.
SICK = {
    "hungry": ["RankStarving 0", "QuarantineGrowing", "CheckpointTooOld", "GoodputLow"],
    "pair": ["RankStraggling 1", "RankDown 1", "RunStalled", "RunDead"],
    "unlucky": ["CheckpointFailing", "CheckpointCorrupt", "RestartStorm"],
    "cloud": ["StorageRetrying", "StorageFailing"],
    # What it takes apart to learn wrong names ends in one point.
    "mislabelled": ["LabelNoise", "EmbeddingCollapse", "TripletsCollapse"],
    "wild": ["LossDiverging"],
}


def values_of(packed: Path, directory: Path | str, **changes: Any) -> dict[str, Any]:
    """A run without an end that is looked at closely."""
    telemetry = {"recorders": ["prometheus"], "diagnose_every_steps": 5, "heartbeat_seconds": 0.5}
    telemetry |= changes.pop("telemetry", {})
    changes = {"steps": 1_000_000, "checkpoint": {"every_steps": 10}, **changes}
    return small_run_values(packed, directory, telemetry=telemetry, **changes)


@pytest.fixture(scope="module")
def learned(packed_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that knows the drawn faces."""
    folder = tmp_path_factory.mktemp("learned")
    run = Run(small_run_values(packed_faces, folder, steps=200), step_seconds=0)
    with running(run):
        run.wait()
    return folder / "weights.pt"


def shuffled(faces: Path, folder: Path) -> Path:
    """The data set with every image in another's place."""
    paths = sorted((faces / "train").glob("*/*"))
    others = Random(0).sample(paths, len(paths))
    for path, other in zip(paths, others, strict=True):
        target = folder / "source" / path.relative_to(faces / "train")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(other, target)
    pack(str(folder / "source"), str(folder / "packed"))
    return folder / "packed"


def damaged(packed: Path, folder: Path) -> Path:
    """The data set with every eighth image overwritten."""
    shutil.copytree(packed, folder)
    index = Index.load(folder)
    for row in range(0, len(index), 8):
        path = folder / index.manifest.shards[int(index.shard_ids[row])].name
        with path.open("r+b") as file:
            file.seek(int(index.offsets[row]))
            file.write(bytes(min(int(index.sizes[row]), 200)))
    return folder


def spoil_newest_commit(directory: Path) -> None:
    newest = sorted((directory / "checkpoints").glob("step-*"))[-1]
    next(newest.glob("*.distcp")).write_bytes(b"no")


def committed(directory: Path, run: Run, more_than: int = 0) -> None:
    """Until the run in `directory` has made a commit after step `more_than`."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    commits = directory / "checkpoints/commits"
    while not any(int(path.name.split("-")[0]) > more_than for path in commits.glob("*.json")):
        assert run.alive, run.log
        assert time.monotonic() < deadline
        time.sleep(0.1)


def newest_step(directory: Path) -> int:
    return max(int(path.name.split("-")[0]) for path in (directory / "checkpoints/commits").glob("*.json"))


def be_unlucky(values: dict[str, Any], directory: Path, ask: Ask) -> Run:
    """A commit fails; then three restarts, the second of which finds its newest commit damaged. The last attempt."""
    run = Run(values)
    committed(directory, run)
    # Prometheus takes up to 5 s to see new targets.
    wait_for(ask, f'run:octoscale_restarts:max{{run="{directory}"}} == 0', lambda: run.alive)
    commits = directory / "checkpoints/commits"
    commits.rename(directory / "aside")
    commits.write_text("a file where a folder should be")
    run.wait()
    commits.unlink()
    (directory / "aside").rename(commits)
    for number in range(3):
        if number == 1:
            spoil_newest_commit(directory)
        run = Run(values)
        committed(directory, run, newest_step(directory))
        if number == 1:
            wait_for(ask, f'octoscale_checkpoint_corrupt_total{{run="{directory}"}} > 0')
        if number < 2:
            run.kill()
    return run


@pytest.fixture(scope="module")
def play(
    packed_faces: Path, drawn_faces: Path, learned: Path, tmp_path_factory: pytest.TempPathFactory, _s3_endpoint: str
) -> Fired:
    """All runs at once, for a little more than an hour of the rules' time; which alerts were on, of which run."""
    folder = tmp_path_factory.mktemp("play")
    names = ("healthy", *SICK)
    bucket = f"bucket-{uuid.uuid4().hex}"
    put_object(_s3_endpoint, bucket)
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    rules = [Rule(FORBIDDEN, "PUT", "heartbeats"), Rule(SLOW_DOWN, "PUT", probability=0.5)]

    def values(name: str, data: Path = packed_faces, **changes: Any) -> dict[str, Any]:
        # What the network has learned is to stay.
        changes = {"optimizer": {"learning_rate": 1e-4}, **changes}
        return values_of(data, folder / name, model={"weights": str(learned)}, **changes)

    def firing(alert: str, name: str) -> str:
        return f'ALERTS{{alertname="Octoscale{alert}", alertstate="firing", run="{folder / name}"}}'

    with ExitStack() as stack:
        proxy = stack.enter_context(faulty(_s3_endpoint, rules))
        ask = stack.enter_context(prometheus(folder, *(folder / name for name in names), every_ms=500, factor=FACTOR))

        def start(*arguments: Any, **settings: Any) -> Run:
            run = Run(*arguments, **settings)
            stack.enter_context(running(run))
            return run

        healthy = start(values("healthy"))
        tame = start(values("wild", steps=20))
        start(
            values("hungry", damaged(packed_faces, folder / "damaged"), checkpoint={"every_steps": 1_000_000}),
            sickness="stalled loader",
        )
        start(values("mislabelled", shuffled(drawn_faces, folder / "shuffled"), optimizer={"learning_rate": 1e-3}))
        pair = start(values("pair"), sickness="slow rank 1", world_size=2)
        cloud = values(
            "cloud", telemetry={"folder": str(folder / "cloud/telemetry")},
            storage={"endpoint_url": proxy.url, "timeout_seconds": 2.0, "deadline_seconds": 30.0},
        )  # fmt: skip
        cloud["directory"] = f"s3://{bucket}/run"
        start(cloud, environment=keys)
        tame.wait()
        start(values("wild", optimizer={"learning_rate": 1000 * 1e-4}))
        unlucky = be_unlucky(values("unlucky", checkpoint={"every_steps": 5}), folder / "unlucky", ask)
        stack.enter_context(running(unlucky))
        wait_for(ask, firing("RankStraggling", "pair"), lambda: pair.alive)
        # Stopped, it answers nobody, and the other one waits for it.
        pair.signal(signal.SIGSTOP, rank=1)
        wait_for(ask, firing("RunStalled", "pair"))
        pair.kill()
        wait_for(ask, firing("RunDead", "pair"))
        # The last to come: it needs an hour, and a quarter of the next one.
        wait_for(ask, firing("GoodputLow", "hungry"))
        assert healthy.alive, healthy.log
        runs = {str(folder / name): name for name in names} | {cloud["directory"]: "cloud"}
        return {(alert, runs[run], rank) for alert, run, rank in fired(ask)}


@pytest.mark.soak
@pytest.mark.parametrize(("run", "alert"), [(run, alert) for run, alerts in SICK.items() for alert in alerts])
def test_a_sick_run_raises_the_alert(play: Fired, run: str, alert: str) -> None:
    name, _, rank = alert.partition(" ")
    assert (f"Octoscale{name}", run, rank) in play


@pytest.mark.soak
def test_a_healthy_run_raises_none(play: Fired) -> None:
    assert not {alert for alert, run, _ in play if run == "healthy"}


def test_a_run_that_is_killed_is_dead_and_lives_again(packed_faces: Path, tmp_path: Path) -> None:
    values = values_of(packed_faces, tmp_path / "run")
    dead = 'ALERTS{alertname="OctoscaleRunDead", alertstate="firing"}'
    with prometheus(tmp_path, tmp_path / "run", factor=FACTOR) as ask:
        run = Run(values)
        with running(run):
            wait_for(ask, f"octoscale_steps_total > 5 unless on () {dead}", lambda: run.alive)
        ((labels, _),) = wait_for(ask, dead)
        assert labels["run"] == str(tmp_path / "run")
        again = Run(values)
        with running(again):
            wait_for(ask, "octoscale_attempt == 2", lambda: again.alive)
            wait_for(ask, f"count(up == 1) == 1 unless on () {dead}", lambda: again.alive)


def test_every_alert_is_shown() -> None:
    shown = {f"Octoscale{alert.split()[0]}" for alerts in SICK.values() for alert in alerts}
    rules = yaml.safe_load((RULES / "alerts.yml").read_text())
    assert shown == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
