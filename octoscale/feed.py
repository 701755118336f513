"""The data of a run, from its configuration: opened, planned, and read batch by batch."""

import uuid
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from octoscale.checkpoint import Position
from octoscale.config import Config
from octoscale.data.dataset import DataSet
from octoscale.data.index import Index
from octoscale.data.planner import Planner
from octoscale.data.prefetch import Arrivals
from octoscale.data.stream import PlannedBatch, planned_batches
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError


def open_data(config: Config) -> DataSet:
    """The data set that the run trains on."""
    return DataSet.open(config.data.url, config.data.cache_dir, config.storage)


def planner_of(config: Config, index: Index) -> Planner:
    """Plans the epochs of the run; to be closed."""
    return Planner(
        index,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
        window_fraction=config.data.window,
        cache_dir=Path(config.data.cache_dir).expanduser(),
    )


@contextmanager
def feed(
    config: Config, data: DataSet, world: World, position: Position
) -> Iterator[Generator[PlannedBatch, None, None]]:
    """This rank's batches from `position` on; what plans, fetches and reads them ends with the block."""
    with (
        closing(_arrivals(config, data, world, position)) as arrivals,
        closing(planner_of(config, data.index)) as planner,
    ):
        batches = planned_batches(
            planner,
            data.reader,
            arrivals,
            epoch=position.epoch,
            batch=position.batch,
            rank=world.rank,
            world_size=world.world_size,
            workers=config.data.workers,
            batches=None if config.steps is None else config.steps - position.step,
            epochs=config.epochs,
        )
        with closing(batches):
            yield batches


def _arrivals(config: Config, data: DataSet, world: World, position: Position) -> Arrivals:
    """On every rank, or an error on every rank: none waits for one that cannot start."""
    arrivals, problem = None, None
    try:
        node: str | OctoscaleError = data.node_name()
    except OctoscaleError as error:
        node = error
    nodes, attempt = world.gather(node), world.broadcast(uuid.uuid4().hex)
    for answer in nodes:
        if isinstance(answer, OctoscaleError):
            raise answer
    try:
        arrivals = data.arrivals(
            config.data,
            global_batch_size=config.global_batch_size,
            rank=world.rank,
            nodes=nodes,
            start=position.batch,
            attempt=attempt,
        )
    except OctoscaleError as error:
        problem = str(error)
    problems = world.gather(problem)
    if arrivals is None or any(problems):
        if arrivals is not None:
            arrivals.close()
        raise OctoscaleError(next(problem for problem in problems if problem))
    return arrivals
