"""What measuring costs, as a share of a training step on this machine.

    python tools/bench/telemetry.py [--batch 64] [--model mobilefacenet]

Prints JSON. Each part is timed by itself, many times over, with every recorder on: the share is far below what two
runs of a whole step differ by. Those are beside it, with every recorder and with none in turn. `diagnostics` is what
one step in `diagnose_every_steps` pays, spread over all of them. Meanwhile a client has asked for the metrics and does
not read them. `record_cpu_microseconds` is the processor time of the training's thread alone: on a busy machine it says
more than the wall time.
"""

import argparse
import json
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import prometheus_client
import torch
from support.measure import describe_machine, seconds_of
from support.training import engine_of, random_batch

import octoscale
from octoscale.data.loader import Batch
from octoscale.distributed.world import World
from octoscale.measured import Measured, StepLine
from octoscale.models import load
from octoscale.step import StepConfig, StepResult, chunk_rows, training_step
from octoscale.telemetry.config import RecorderName, TelemetryConfig
from octoscale.telemetry.diagnostics import diagnose, share_of
from octoscale.telemetry.export import exported
from octoscale.telemetry.goodput import WallLedger
from octoscale.telemetry.phases import PhaseClock

TERMS = ("hhh", "hll", "lhh", "lll")
RECORDERS: tuple[RecorderName, ...] = ("prometheus", "jsonl", "tensorboard")


def median_of(call: Callable[[], object], device: torch.device, *, rounds: int) -> float:
    """Seconds of one call."""
    return statistics.median(seconds_of(lambda: void(call), device) for _ in range(rounds))


def cpu_of_recording(recorders: tuple[RecorderName, ...], line: StepLine, batch: Batch, world: World) -> float:
    """Processor seconds of this thread for one step's metrics: the best of a few rounds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        exported(
            TelemetryConfig(recorders=recorders), run="bench", run_folder=Path(folder), rank=0, world_size=1
        ) as metrics,
    ):
        measured = Measured(metrics, WallLedger(metrics), world, image_flops=1.0, peak_flops=1.0)

        def once() -> float:
            started = time.thread_time()
            for _ in range(200):
                measured.step(line, batch)
                measured.together(False, step=1, global_batch_size=len(batch.sample_ids))
            return (time.thread_time() - started) / 200

        return min(once() for _ in range(5))


def whole_steps(
    step: Callable[[], StepResult], line: StepLine, batch: Batch, world: World, *, rounds: int
) -> dict[str, float]:
    """Seconds of a step and of what is recorded of it, with every recorder and with none, in turn: medians."""
    with ExitStack() as stack:
        measured = {}
        for name, recorders in (("none", ()), ("all", RECORDERS)):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            config = TelemetryConfig(recorders=recorders)
            metrics = stack.enter_context(exported(config, run="bench", run_folder=folder, rank=0, world_size=1))
            measured[name] = Measured(metrics, WallLedger(metrics), world, image_flops=1.0, peak_flops=1.0)

        def once(name: str) -> None:
            step()
            measured[name].step(line, batch)
            measured[name].together(False, step=1, global_batch_size=len(batch.sample_ids))

        seconds: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(rounds):
            for name, values in seconds.items():
                values.append(seconds_of(partial(once, name), world.device))
    return {name: statistics.median(values) for name, values in seconds.items()}


def void(call: Callable[[], object]) -> None:
    call()


def phases(device: torch.device, chunks: int, hops: int) -> None:
    """As many phases as a step has: two for each chunk, five of the loss and its exchange, two after it."""
    clock = PhaseClock(device)
    for _ in range(2 * chunks + 7 + hops):
        with clock("phase"):
            pass
    clock.seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine, world = describe_machine(device), World(device=device)
    network = load(arguments.model).to(device)
    engine, batch = engine_of(network, world), random_batch(arguments.batch)
    step_config = StepConfig(micro_batch_size=arguments.micro_batch)
    chunks = len(chunk_rows(arguments.batch, arguments.micro_batch))
    config = TelemetryConfig(recorders=RECORDERS)

    def step() -> StepResult:
        return training_step(batch, engine, step_config, world, seed=0, epoch=0, learning_rate=1e-4)

    result = step()
    line = StepLine(1, 0, 0, 0, 1e-4, step_seconds=1.0, data_wait_seconds=0.0, result=result)
    with torch.no_grad():
        embeddings = torch.cat([engine.embed(rows.to(device)) for rows in batch.high.split(16)])
    embeddings = torch.cat([embeddings, embeddings]).float()
    dim = embeddings.shape[1]
    negatives = {term: torch.arange(arguments.batch, device=device) for term in TERMS}
    sizes = {"global_batch_size": arguments.batch}

    with (
        tempfile.TemporaryDirectory() as folder,
        exported(config, run="bench", run_folder=Path(folder), rank=0, world_size=1) as metrics,
    ):
        measured = Measured(metrics, WallLedger(metrics), world, image_flops=1.0, peak_flops=1.0)

        def record() -> None:
            measured.step(line, batch)
            measured.together(False, step=1, global_batch_size=arguments.batch)

        (target,) = Path(folder, "telemetry/targets").glob("*.json")
        host, port = json.loads(target.read_text())[0]["targets"][0].split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n")
            seconds = {
                "step": median_of(step, device, rounds=arguments.rounds),
                "record": median_of(record, device, rounds=500),
                "phases": median_of(lambda: phases(device, chunks, hops=0), device, rounds=500),
                "diagnostics": median_of(
                    lambda: diagnose(share_of(embeddings, negatives, **sizes), dim=dim, terms=TERMS, **sizes),
                    device,
                    rounds=10,
                )
                / config.diagnose_every_steps,
            }
        started = time.perf_counter()
        text = prometheus_client.generate_latest(metrics.registry)
        scrape = time.perf_counter() - started
    cpu = {
        " + ".join(names) or "none": cpu_of_recording(names, line, batch, world)
        for names in ((), RECORDERS[:1], RECORDERS[:2], RECORDERS)
    }
    recorders = cpu[" + ".join(RECORDERS)] - cpu["none"]
    whole = whole_steps(step, line, batch, world, rounds=arguments.rounds)
    parts = {name: value for name, value in seconds.items() if name != "step"}
    print(
        json.dumps(
            {
                "batch": arguments.batch,
                "chunks": chunks,
                "model": arguments.model,
                "embedding_dim": dim,
                "step_seconds": round(seconds["step"], 4),
                "telemetry_microseconds_per_step": {name: round(1e6 * value, 1) for name, value in parts.items()},
                "record_cpu_microseconds": {names: round(1e6 * seconds, 1) for names, seconds in cpu.items()},
                "step_seconds_by_recorders": {names: round(seconds, 4) for names, seconds in whole.items()},
                "recorders_share_of_step_percent": round(100 * recorders / whole["none"], 3),
                "share_of_step_percent": round(100 * sum(parts.values()) / seconds["step"], 3),
                "scrape_milliseconds": round(1e3 * scrape, 2),
                "scrape_bytes": len(text),
                "versions": {"octoscale": octoscale.__version__, "torch": torch.__version__},
                "machine": machine,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
