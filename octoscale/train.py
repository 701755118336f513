"""A run from its configuration to its result: puts the parts together, and holds the loop."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from rich.console import Console

from octoscale.build import build_engine, build_network, build_teacher, check_compilers
from octoscale.checkpoint import Checkpoints, CommitInterval, Position
from octoscale.config import Config
from octoscale.data.index import Index
from octoscale.data.storage import Store
from octoscale.data.stream import PlannedBatch
from octoscale.distillation import Teacher
from octoscale.distributed.engine import Engine
from octoscale.distributed.world import World, connected
from octoscale.errors import OctoscaleError
from octoscale.evaluate.evaluation import Evaluation
from octoscale.feed import feed, open_data
from octoscale.geometry import Geometry
from octoscale.heartbeat import Heart, last_heartbeat
from octoscale.interruption import Interruption, interruption
from octoscale.journal import Journal
from octoscale.measured import Measured, StepLine
from octoscale.models import compile_backbone
from octoscale.optimizer import learning_rate_at
from octoscale.results import Results
from octoscale.resume import resume, run_record
from octoscale.step import StepResult, training_step
from octoscale.telemetry.export import exported
from octoscale.telemetry.flops import forward_flops
from octoscale.telemetry.goodput import WallLedger
from octoscale.telemetry.output import Tell, silent
from octoscale.telemetry.pace import Pace
from octoscale.telemetry.progress import training
from octoscale.trained import with_what_weights_say

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """How a run ended, and how good the network was before and after."""

    status: Literal["finished", "interrupted"]
    position: Position
    baseline: Evaluation | None
    final: Evaluation | None


def train(
    config: Config,
    world: World,
    *,
    console: Console | None = None,
    quiet: bool = False,
    wish: Interruption | None = None,
    tell: Tell = silent,
) -> Summary:
    """Train to the configured length, or until SIGTERM or `wish` asks to stop; go on where a commit left off.

    Called by every rank of `world`; the wish of one of them stops all. All that the run leaves behind is in
    `config.directory`.

    Args:
        console: where rank 0 shows a bar if it is a terminal, unless `quiet`; by default stderr.
        tell: on rank 0, told the events `geometry`, `step`, `commit` and `evaluation`.

    Raises:
        OctoscaleError: what the user can mend, before the first step wherever it can be known then.
    """
    timeout, alone_too = config.resilience.process_group_timeout_seconds, config.engine == "deepspeed"
    with connected(world, timeout_seconds=timeout, alone_too=alone_too), ExitStack() as stack:
        began = time.time()
        config = with_what_weights_say(config)
        data = open_data(config)
        index = data.index
        check_same_data(index, world)
        if config.model.compile:
            check_compilers(world)
        network = build_network(config, world)
        # Before it is compiled, and before an engine may partition it.
        flops = forward_flops(network, index.image_size, world.device) if config.telemetry.recorders else None
        if config.model.compile:
            compile_backbone(network)
        engine = build_engine(config, network, world)
        teacher = build_teacher(config, world)

        store = Store(config.directory, config.storage)
        commits = config.checkpoint.url or store.child("checkpoints").url
        checkpoints = stack.enter_context(Checkpoints(commits, world, config.checkpoint, config.storage))
        checkpoints.check_writable()
        attempt = checkpoints.claim()
        folder = store.local_path() if store.is_local else None
        metrics = stack.enter_context(
            exported(config.telemetry, run=config.directory, run_folder=folder, rank=world.rank,
                     world_size=world.world_size, settings=config.model_dump(mode="json"))
        )  # fmt: skip
        ledger = WallLedger(metrics, began=began, attempt=attempt.number)
        record = run_record(config, index)
        position = resume(checkpoints, engine, record, metrics)
        former = world.broadcast(last_heartbeat(store, attempt.number) if world.is_main else None)
        ledger.go_on(record.get("ledger"), last_sign=None if former is None else former.time)
        geometry = Geometry.derive(config, world.world_size, index)
        geometry.log(config, position, device=str(world.device))
        shown_on = console or Console(stderr=True)
        tell = stack.enter_context(training(shown_on, quiet=quiet, tell=tell)) if world.is_main else silent
        tell("geometry", **asdict(geometry))
        if world.is_main:
            store.write("config.yaml", config.to_yaml().encode())

        measured = Measured(
            metrics, ledger, world, former=former, image_flops=flops, peak_flops=config.telemetry.peak_flops
        )
        heart = Heart(
            store, attempt.number, former, lambda: measured.checkpoint_failures,
            every_seconds=config.telemetry.heartbeat_seconds,
        )  # fmt: skip
        stack.callback(heart.stop)
        results = Results(store, config.evaluate, world, measured)
        if position.step == 0:
            results.evaluate_at_start(network)

        pace = Pace(global_batch_size=config.global_batch_size, steps=geometry.steps or 0)
        journal = Journal(store, measured, pace, tell, log_every_steps=config.telemetry.log_every_steps)
        batches = stack.enter_context(feed(config, data, world, position))
        stop = stack.enter_context(interruption(wish))
        interval = CommitInterval(config.checkpoint, world, attempt, position.step)

        while not finished(config, position):
            ledger.started()
            position = train_one_step(config, world, engine, teacher, batches, position, journal)
            if world.is_main:
                heart.step(position.step)
            # After a commit that failed no more steps are to be lost: the next one, now, raises its fault.
            stopped = measured.together(
                stop.asked or checkpoints.failed, step=position.step, global_batch_size=config.global_batch_size
            )
            ends = stopped or finished(config, position)
            # A run that was asked to stop has seconds, not the time of an evaluation.
            score = None if stopped else results.evaluate_if_due(network, position.step, ends=ends)
            if score is not None:
                tell("evaluation", step=position.step, mean_accuracy=score)
            due = interval.due(position.step, under_way=checkpoints.busy)
            if ends or score is not None or due:
                started = time.perf_counter()
                checkpoints.commit(
                    engine.state_dict(), position, {**record, "ledger": ledger.record()}, score, last=ends,
                    first=journal.taken(position.step, is_main=world.is_main),
                    then=partial(journal.committed, position.step), failed=measured.commit_failed,
                )  # fmt: skip
                stall = time.perf_counter() - started
                measured.stalled(stall)
                interval.committed(position.step, stall)
            if stopped:
                checkpoints.wait()
                logger.warning("asked to stop: step %d is committed; start the same run again to go on", position.step)
                return Summary("interrupted", position, results.baseline, None)
        checkpoints.wait()
        final = results.conclude(network, position.step, whole=engine.whole())
        return Summary("finished", position, results.baseline, final)


def train_one_step(
    config: Config,
    world: World,
    engine: Engine,
    teacher: Teacher | None,
    batches: Iterator[PlannedBatch],
    position: Position,
    journal: Journal,
) -> Position:
    """Fetch the planned batch, train on it, write the step down; the position after it."""
    started = time.perf_counter()
    planned = next(batches)
    fetched = time.perf_counter()
    rate = learning_rate(config, position, planned)
    result = training_step(
        planned.batch, engine, config.step, world, seed=config.seed, epoch=planned.epoch, learning_rate=rate,
        teacher=teacher, diagnosed=position.step % config.telemetry.diagnose_every_steps == 0,
    )  # fmt: skip
    check_finite(result, position, rate)
    position = after(position, planned, config.global_batch_size)
    journal.step(
        StepLine(
            step=position.step,
            epoch=planned.epoch,
            batch=planned.number,
            sample_ids_crc32=planned.sample_ids_crc32,
            learning_rate=rate,
            step_seconds=time.perf_counter() - fetched,
            data_wait_seconds=fetched - started,
            result=result,
        ),
        planned.batch,
    )
    return position


def check_same_data(index: Index, world: World) -> None:
    """Refuse nodes whose local folders of one name hold different data sets."""
    fingerprints = world.gather(index.fingerprint)
    if len(set(fingerprints)) > 1:
        odd = next(rank for rank, other in enumerate(fingerprints) if other != fingerprints[0])
        raise OctoscaleError(
            f"rank {odd} reads another data set (fingerprint {fingerprints[odd]}) than rank 0 ({fingerprints[0]}): "
            "put the same data set on every node, or give a URL that all nodes see"
        )


def finished(config: Config, position: Position) -> bool:
    """Whether the run has its configured length."""
    if config.steps is not None:
        return position.step >= config.steps
    assert config.epochs is not None
    return position.epoch >= config.epochs


def after(position: Position, planned: PlannedBatch, global_batch_size: int) -> Position:
    """The position when `planned` has been trained on; the end of an epoch is the start of the next."""
    step, samples_seen = position.step + 1, position.samples_seen + global_batch_size
    if planned.number + 1 == planned.epoch_batches:
        return Position(step, planned.epoch + 1, 0, samples_seen)
    return Position(step, planned.epoch, planned.number + 1, samples_seen)


def check_finite(result: StepResult, position: Position, rate: float) -> None:
    """Stop before weights that are no numbers replace the good commits."""
    if result.skipped and math.isfinite(result.loss):
        logger.warning("step %d is skipped: its gradients overflowed fp16; the loss scale is halved", position.step + 1)
        return
    if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
        gave = f"step {position.step + 1} gave loss {result.loss} and gradient norm {result.gradient_norm}"
        if position.step == 0:
            # No step was taken: it is not the learning rate.
            raise OctoscaleError(
                f"{gave} with the network as it was loaded: look for damaged weights or those of another network, "
                "embeddings too long for the precision, and frozen batch norm whose statistics no training has made"
            )
        raise OctoscaleError(
            f"{gave} at learning rate {rate:g}; nothing of it is committed: lower optimizer.learning_rate or set "
            "optimizer.max_gradient_norm, and start again to go on from the last commit"
        )


def learning_rate(config: Config, position: Position, planned: PlannedBatch) -> float:
    """The learning rate of the step after `position`."""
    done: float = position.step
    if config.epochs is not None:
        done = planned.epoch + planned.number / planned.epoch_batches
    length = config.steps or config.epochs
    assert length is not None
    return learning_rate_at(
        config.schedule, config.optimizer.learning_rate, step=position.step, done=done, length=length
    )
