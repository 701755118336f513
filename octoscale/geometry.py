"""Every number that follows from a configuration, a number of ranks and a data set: said before the first step."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from octoscale.checkpoint import Position
from octoscale.config import Config
from octoscale.data.index import Index
from octoscale.data.plan import pairs_per_batch, rank_batch_size
from octoscale.distributed.deepspeed_config import zero_stage
from octoscale.loss.negatives import Negatives
from octoscale.models import load
from octoscale.models.graph_file import is_graph_file
from octoscale.resilience import possible_world_sizes
from octoscale.step import chunk_rows
from octoscale.telemetry.words import size

logger = logging.getLogger(__name__)

# Of embeddings in the exchange, whatever precision they were computed in; of an index or a key.
_NUMBER_BYTES, _KEY_BYTES = 4, 8
_FACTS = 9
# Numbers that an optimizer keeps for each weight.
_MOMENTS = {"sgd": 1, "adamw": 2, "adagrad": 1}


@dataclass(frozen=True)
class Geometry:
    """The sizes of a run. None: not known, without its data set or with a network of the user's own.

    Attributes:
        identities_per_batch: half of the batch, as each gives a pair of images.
        rank_batch_size: high-resolution images of one rank in a step.
        chunks: images that are in a rank's network at a time, chunk by chunk.
        passes: through the network in a step, 2 where there are several chunks.
        images, identities, image_size: of the data set.
        steps_per_epoch: at most; an epoch ends when too few identities have two images left.
        images_per_epoch: at most, high-resolution ones.
        steps, epochs: of the whole run; where it is counted in epochs, `steps` are at most so many.
        commits: of the whole run; None where their interval is a time.
        commit_bytes: of one commit, about: the network, and what its optimizer remembers.
        exchange_bytes_per_step: that a rank sends for the loss, at most; gradients of the parameters not among them.
    """

    world_size: int
    global_batch_size: int
    identities_per_batch: int
    rank_batch_size: int
    chunks: tuple[int, ...]
    passes: int
    images: int | None
    identities: int | None
    image_size: int | None
    steps_per_epoch: float | None
    images_per_epoch: int | None
    steps: int | None
    epochs: int | None
    commits: int | None
    commit_bytes: int | None
    exchange_bytes_per_step: int | None

    @classmethod
    def derive(cls, config: Config, world_size: int, index: Index | None = None) -> "Geometry":
        """The geometry on so many ranks; without `index`, what can be known before the data set is opened.

        Raises:
            OctoscaleError: a number that is impossible: of ranks, or of identities in the data set.
        """
        batch = config.global_batch_size
        rank_batch = rank_batch_size(batch, world_size)
        chunks = tuple(rows.stop - rows.start for rows in chunk_rows(rank_batch, config.micro_batch_size))
        steps = config.steps
        if index is not None:
            pairs_per_batch(index.images_per_identity, batch)
            if steps is None:
                assert config.epochs is not None
                steps = config.epochs * (len(index) // batch)
        every = config.checkpoint.every_steps
        return cls(
            world_size=world_size,
            global_batch_size=batch,
            identities_per_batch=batch // 2,
            rank_batch_size=rank_batch,
            chunks=chunks,
            passes=2 if len(chunks) > 1 else 1,
            images=None if index is None else len(index),
            identities=None if index is None else index.identity_count,
            image_size=None if index is None else index.image_size,
            steps_per_epoch=None if index is None else len(index) / batch,
            images_per_epoch=None if index is None else len(index) // batch * batch,
            steps=steps,
            epochs=config.epochs,
            commits=math.ceil(steps / every) if steps is not None and isinstance(every, int) else None,
            commit_bytes=commit_bytes(config),
            exchange_bytes_per_step=_exchange_bytes(config, world_size),
        )

    def lines(self, config: Config, others: Sequence["Geometry"] = ()) -> Iterator[str]:
        """What is told to people; `others`: the same run on other numbers of ranks, which it may change to."""
        if self.images is not None:
            yield f"data      {self.images:,} images of {self.identities:,} identities, {self.image_size} px"
        ranks = "1 rank" if self.world_size == 1 else f"{self.world_size} ranks"
        yield (
            f"batch     {self.global_batch_size:,} images = {self.identities_per_batch:,} identities × 2 = "
            f"{ranks} × {self.rank_batch_size:,}; each image twice, high and low"
        )
        first, last = self.chunks[0], self.chunks[-1]
        rest = f" and one of {last}" if last < first else ""
        passes = "one pass" if self.passes == 1 else "two passes"
        yield f"chunks    {self.chunks.count(first)} × {first} images{rest} on each rank, in {passes}"
        yield f"length    {', '.join(self._length(config))}"
        yield f"commits   {self._commits(config)}"
        if others:
            sizes = ", ".join(f"{other.world_size} × {other.rank_batch_size:,}" for other in others)
            yield f"elastic   also {sizes}"
        if self.world_size > 1 and self.exchange_bytes_per_step is not None:
            yield f"exchange  at most {size(self.exchange_bytes_per_step)} from each rank in a step, for the loss"

    def log(self, config: Config, position: Position, *, device: str) -> None:
        """Say everything at the start of an attempt that goes on from `position`."""
        for line in self.lines(config):
            logger.info("%s", line)
        if position.step:
            logger.info("goes on   after step %d: epoch %d, batch %d", position.step, position.epoch, position.batch)
        stage = f", ZeRO {zero_stage(config.deepspeed or {})}" if config.engine == "deepspeed" else ""
        logger.info(
            "device    %s, %s, %s%s, %s, batch norm %s",
            device, config.precision, config.engine, stage, config.model.name, config.model.batch_norm,
        )  # fmt: skip

    def _length(self, config: Config) -> Iterator[str]:
        if config.epochs is not None:
            yield f"{config.epochs:,} epochs" + ("" if self.steps is None else f", at most {self.steps:,} steps")
        else:
            yield f"{self.steps:,} steps"
        if self.steps_per_epoch is not None:
            yield f"about {self.steps_per_epoch:,.1f} steps and {self.images_per_epoch:,} images per epoch"

    def _commits(self, config: Config) -> str:
        checkpoint = config.checkpoint
        if checkpoint.every_seconds is not None:
            interval = f"every {checkpoint.every_seconds:g} s"
        elif checkpoint.every_steps == "auto":
            interval = "at an interval that follows from their cost and the run's failures"
        else:
            interval = f"every {checkpoint.every_steps:,} steps"
        count = "" if self.commits is None else f", {self.commits:,} in all"
        weight = "" if self.commit_bytes is None else f", about {size(self.commit_bytes)} each"
        return f"{interval} and at the end{count}{weight}"


def possible_geometries(config: Config) -> list[Geometry]:
    """Those of the world sizes that `resilience.workers` allows, ascending; the data set is not opened.

    Raises:
        OctoscaleError: the batch divides on none of them.
    """
    sizes = possible_world_sizes(config.global_batch_size, config.resilience.world)
    return [Geometry.derive(config, size) for size in sizes]


def _exchange_bytes(config: Config, world_size: int) -> int | None:
    """Sent by a rank in a step for the loss, if all its negatives are different images of other ranks.

    The half ring carries each rank's rows to ⌊W/2⌋ others, whose answers come back; then the chosen rows are fetched,
    and their gradients given back.
    """
    network = _network(config)
    dim = config.model.embedding_dim if network is None else network.embedding_dim
    if world_size == 1 or dim is None:
        return 0 if world_size == 1 else None
    rows = rank_batch_size(config.global_batch_size, world_size)
    rule, terms = Negatives.parse(config.loss.negatives), config.loss.terms
    floors = len(terms) if rule.factor is not None else 0
    hops = world_size // 2
    ring = hops * rows * (2 * dim + floors) * _NUMBER_BYTES
    answers = hops * len(terms) * rows * rule.count * _KEY_BYTES
    facts = (world_size - 1) * _KEY_BYTES * (_FACTS + rows)
    fetched = 0
    for resolution in "hl":
        wanted = sum(term.endswith(2 * resolution) for term in terms) * rows * (rule.count if rule.mean else 1)
        others = (world_size - 1) * rows
        fetched += min(wanted, others) * (_KEY_BYTES + 2 * dim * _NUMBER_BYTES) + _KEY_BYTES * world_size
    return ring + answers + facts + fetched


def commit_bytes(config: Config) -> int | None:
    """Of one commit, about: weights in fp32, and what the optimizer remembers of each; None: not known.

    Raises:
        OctoscaleError: there is no such network.
    """
    network = _network(config)
    if network is None:
        return None
    moments = 0 if config.optimizer.momentum == 0 else _MOMENTS[config.optimizer.name]
    return _NUMBER_BYTES * network.parameters * (1 + moments) + network.buffer_bytes


@dataclass(frozen=True)
class _Network:
    embedding_dim: int
    parameters: int
    buffer_bytes: int


def _network(config: Config) -> _Network | None:
    """The sizes of the network; None for one of the user's own, which may do anything when it is made."""
    if ":" in config.model.name:
        return None
    return _sizes(config.model.name, config.model.embedding_dim)


@cache
def _sizes(name: str, embedding_dim: int | None) -> _Network:
    # Shapes alone: no weights are drawn. A graph has its own, which are nowhere but on the CPU.
    with torch.device("cpu" if is_graph_file(name) else "meta"), torch.no_grad():
        network = load(name, embedding_dim=embedding_dim).eval()
        size = network.image_size or 112
        return _Network(
            embedding_dim=int(network(torch.zeros(1, 3, size, size)).shape[1]),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            buffer_bytes=sum(buffer.nbytes for buffer in network.buffers()),
        )
