"""Measured points for the cost model: gloo ranks of one thread that train, search and exchange, and count it."""

import json
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from octoscale.data.loader import Batch
from octoscale.distributed.world import World
from octoscale.loss import octuplet, refinement, rows
from octoscale.models import load
from octoscale.step import StepConfig, training_step
from support.losses import embeddings
from support.training import SIZE, engine_of, random_batch


@dataclass(frozen=True)
class Work:
    """What a group of ranks is to do; global batches, divided over the ranks.

    Attributes:
        step_batch, micros, steps: timed training steps of `model` in chunks of each size, after one to warm up.
        loss_batches, dim: batches of which the loss, forward and backward, is timed `steps` times.
        count_rows: rows of a rank in the loss whose messages and operations are counted; 0: none.
    """

    model: str
    step_batch: int
    micros: tuple[int, ...]
    steps: int
    loss_batches: tuple[int, ...]
    dim: int
    count_rows: int


def measure(ranks: int, work: Work) -> dict[str, Any]:
    """Run `work` in new processes; rank 0's findings, and means over the ranks where they differ."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(_rank, (ranks, work, folder), nprocs=ranks, start_method="spawn")
        found: dict[str, Any] = json.loads(Path(folder, "found.json").read_text())
        return found


def _rank(rank: int, ranks: int, work: Work, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    world = World(rank, rank, ranks, ranks)
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    found: dict[str, Any] = {}
    if work.micros:
        found |= _steps(world, work)
    found["loss_seconds"] = {str(batch): _losses(world, batch, work) for batch in work.loss_batches}
    if work.count_rows:
        found |= _counts(world, work.count_rows, work.dim)
    if rank == 0:
        Path(folder, "found.json").write_text(json.dumps(found))
    if ranks > 1:
        dist.destroy_process_group()


def _timed(world: World, call: Callable[[], object], times: int) -> list[float]:
    """Seconds of each call, all ranks together, after one to warm up."""
    seconds = []
    for _ in range(times + 1):
        world.barrier()
        started = time.perf_counter()
        call()
        world.barrier()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def _steps(world: World, work: Work) -> dict[str, Any]:
    torch.manual_seed(0)
    network = load(work.model)
    engine = engine_of(network, world)
    whole = random_batch(work.step_batch)
    high, identities, sample_ids = (
        rows.chunk(world.world_size)[world.rank] for rows in (whole.high, whole.identities, whole.sample_ids)
    )
    batch = Batch(high, identities, sample_ids)
    found: dict[str, Any] = {"step_seconds": {}}
    for micro in work.micros:
        config = StepConfig(micro_batch_size=micro)

        def step(config: StepConfig = config) -> None:
            training_step(batch, engine, config, world, seed=0, epoch=0, learning_rate=1e-6)

        found["step_seconds"][str(micro)] = _timed(world, step, work.steps)
    if world.world_size > 1:
        gradients = torch.ones(sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad))
        found["all_reduce_seconds"] = _timed(world, lambda: dist.all_reduce(gradients), 5)
        found["gradient_bytes"] = _gradient_bytes(network)
    return found


def _gradient_bytes(network: nn.Module) -> int:
    """What DDP hands to all-reduce in one backward pass."""
    sent = 0

    def count(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        nonlocal sent
        sent += bucket.buffer().nbytes
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    wrapped = nn.parallel.DistributedDataParallel(network)
    wrapped.register_comm_hook(None, count)
    wrapped(torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)).sum().backward()
    return sent


def _losses(world: World, batch: int, work: Work) -> list[float]:
    call = _loss_call(world, batch, work.dim)
    return _timed(world, call, work.steps)


def _loss_call(world: World, batch: int, dim: int) -> Callable[[], None]:
    """The loss of a global batch, forward and backward, of this rank's rows."""
    high, low, identities = (
        rows.chunk(world.world_size)[world.rank].clone() for rows in embeddings(batch, dim, torch.device("cpu"))
    )
    high.requires_grad_()
    low.requires_grad_()

    def call() -> None:
        octuplet(high, low, identities, group=world.group).loss.backward()

    return call


def _counts(world: World, rank_rows: int, dim: int) -> dict[str, Any]:
    """Messages, operations and searched segments of the loss with `rank_rows` rows on each rank."""
    call = _loss_call(world, rank_rows * world.world_size, dim)
    call()
    with _counted_messages() as sent, _counted_segments() as searched:
        call()
    with _parts_as_on_a_gpu(), _Launches() as launches:
        call()
    names = sorted({name for counts in world.gather(dict(sent)) for name in counts})
    mean = {name: sum(c.get(name, 0) for c in world.gather(dict(sent))) / world.world_size for name in names}
    return {
        "sent_bytes": mean,
        "segments_per_anchor": sum(world.gather(searched[0])) / (4 * rank_rows * world.world_size),
        "operations": launches.count,
    }


@contextmanager
def _counted_messages() -> Iterator[Counter[str]]:
    """Bytes that this rank hands to torch.distributed for other ranks, by purpose, by what it calls."""
    sent: Counter[str] = Counter()
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    originals = {name: getattr(dist, name) for name in ("all_gather", "batch_isend_irecv", "all_to_all_single")}

    def all_gather(outputs: list[Tensor], values: Tensor, **options: Any) -> Any:
        sent["all_gather"] += (ranks - 1) * values.nbytes
        return originals["all_gather"](outputs, values, **options)

    def batch_isend_irecv(operations: list[dist.P2POp]) -> Any:
        sent["send"] += sum(operation.tensor.nbytes for operation in operations if operation.op is dist.isend)
        return originals["batch_isend_irecv"](operations)

    def all_to_all_single(
        output: Tensor,
        values: Tensor,
        received: list[int] | None = None,
        sizes: list[int] | None = None,
        **options: Any,
    ) -> Any:
        # Without sizes these are the counts, in equal parts; of every other one no part is a rank's own.
        assert sizes is None or sizes[rank] == 0
        sent["all_to_all"] += values.nbytes
        return originals["all_to_all_single"](output, values, received, sizes, **options)

    replacements = {"all_gather": all_gather, "batch_isend_irecv": batch_isend_irecv}
    for name, replacement in (replacements | {"all_to_all_single": all_to_all_single}).items():
        setattr(dist, name, replacement)
    try:
        yield sent
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


@contextmanager
def _counted_segments() -> Iterator[list[int]]:
    """How many segments the search looks into."""
    searched = [0]
    original = refinement._search

    def search(keys: Tensor, rows: Tensor, *others: Any) -> None:
        searched[0] += len(rows)
        original(keys, rows, *others)

    refinement._search = search  # type: ignore[assignment]
    try:
        yield searched
    finally:
        refinement._search = original


@contextmanager
def _parts_as_on_a_gpu() -> Iterator[None]:
    """The refinement in parts of the size that a GPU takes at a time, not of a CPU's cache."""
    original = rows._CPU_BYTES
    rows._CPU_BYTES = rows._GPU_BYTES
    try:
        yield
    finally:
        rows._CPU_BYTES = original


class _Launches(TorchDispatchMode):
    """Counts operations that a GPU would launch a kernel for: all but views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += not (func.is_view or "empty" in func.__name__ or func.namespace != "aten")
        return func(*args, **(kwargs or {}))
