"""The cost model of a step: checked against what one and two ranks do here, and drawn for hundreds of GPUs.

    python tools/bench/scaling_model.py [--rounds 2]                              # the checks; the machine at rest
    python tools/bench/scaling_model.py --gpus [--tables] [--png docs/images/scaling.png]    # the model, in seconds

Prints JSON. The checks compare predictions with measurements on this machine (gloo, one thread per rank): bytes and
counts, and times as medians over rounds in which one rank and two take turns; predicted ÷ measured. --gpus is the
model at 1 … 512 GPUs, of which none was measured; --tables prints the tables of docs/scaling.md in its place.
"""

import argparse
import json
import platform
import statistics
import tempfile
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from support import scaling_figure
from support.calibrated import COUNTED, calibrated, published
from support.cluster_cost import around_cost, commit_cost
from support.cost_model import (
    Search,
    checkpoint_bytes,
    exchange_bytes,
    fetched_rows,
    gradient_bytes,
    searched_pairs,
    step_cost,
)
from support.hardware import H100, Hardware
from support.measure import describe_machine
from support.network_cost import NetworkCost, network_cost
from support.scaling_points import Work, measure
from support.shapes import WEBFACE42M
from support.training import engine_of

import octoscale
from octoscale.distributed.world import World
from octoscale.models import load

NETWORKS = ("mobilefacenet", "iresnet50", "iresnet100")
# The last is 174,000 rounded to whole pairs on 512 ranks.
BATCHES = (256, 4_096, 16_384, 65_536, 174_080)
RANKS = tuple(2**power for power in range(10))
GPU_MICRO = 256
STEP_BATCH, MICRO = 32, 16
LOSS_BATCHES, LOSS_DIM = (1_024, 2_048, 4_096), 512
COUNT_ROWS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="of one rank, then two")
    parser.add_argument("--gpus", action="store_true", help="the model for GPUs; nothing is measured")
    parser.add_argument("--tables", action="store_true", help="with --gpus: print tables")
    parser.add_argument("--png", type=Path, help="with --gpus: draw it")
    arguments = parser.parse_args()
    if not arguments.gpus and (arguments.tables or arguments.png):
        parser.error("--tables and --png belong to --gpus")

    networks = {name: network_cost(name) for name in NETWORKS}
    if not arguments.gpus:
        print(json.dumps(checks(networks, arguments.rounds), indent=1))
        return
    costs = {
        device.name: {name: model(network, device, COUNTED) for name, network in networks.items()}
        for device in calibrated(networks["iresnet50"])
    }
    if arguments.png:
        scaling_figure.draw(costs[H100.name], arguments.png)
    print(tables(costs[H100.name]) if arguments.tables else json.dumps(costs, indent=1))


def checks(networks: dict[str, NetworkCost], rounds: int) -> dict[str, Any]:
    """All that can be compared on this machine."""
    machine = describe_machine(torch.device("cpu")) | {"threads": "1 per rank"}
    search, exchange = count_exchange()
    return {
        "exchange": exchange,
        "search": asdict(search),
        **check_times(networks["mobilefacenet"], rounds),
        "checkpoint_bytes": {
            name: compared(checkpoint_bytes(networks[name]), written_bytes(name)) for name in NETWORKS[:2]
        },
        "published": published(networks["iresnet50"]),
        "networks": {name: describe(network) for name, network in networks.items()},
        "versions": {
            "octoscale": octoscale.__version__, "torch": torch.__version__, "python": platform.python_version(),
        },
        "machine": machine,
    }  # fmt: skip


def compared(predicted: float, measured: float) -> dict[str, float]:
    return {"predicted": predicted, "measured": measured, "predicted_over_measured": round(predicted / measured, 4)}


def count_exchange() -> tuple[Search, list[dict[str, Any]]]:
    """Count messages, operations and searched segments of the loss at one to four ranks, and compare the bytes.

    The share of rows that are fetched, and the numbers of operations and segments, are found here: they depend on
    how many anchors share a negative. Everything else in the bytes follows from the shapes.
    """
    found = {}
    for ranks in (1, 2, 3, 4):
        work = Work("mobilefacenet", STEP_BATCH, (), 1, (), LOSS_DIM, COUNT_ROWS)
        found[ranks] = measure(ranks, work)
    rows = []
    shares = {}
    for ranks, counts in found.items():
        batch, sent = ranks * COUNT_ROWS, counts["sent_bytes"]
        without = exchange_bytes(batch, LOSS_DIM, ranks, 0.0)
        most = exchange_bytes(batch, LOSS_DIM, ranks, 1.0) - without
        total = sum(sent.values())
        shares[ranks] = (total - without) / most if most else 0.0
        rows.append(
            {"ranks": ranks, "global_batch_size": batch, "dim": LOSS_DIM, "sent_bytes_per_rank": sent}
            | ({"without_fetched_rows": without, "fetched_share": round(shares[ranks], 4)} if ranks > 1 else {})
        )
    # One share, of two ranks, must give the others' bytes.
    for row in rows[1:]:
        predicted = exchange_bytes(row["global_batch_size"], LOSS_DIM, row["ranks"], shares[2])
        row["total"] = compared(predicted, sum(row["sent_bytes_per_rank"].values()))
        row["fetched_rows_per_rank"] = fetched_rows(row["global_batch_size"], row["ranks"], shares[row["ranks"]])
    segments, operations = (
        {ranks: counts[name] for ranks, counts in found.items()} for name in ("segments_per_anchor", "operations")
    )
    # At three ranks each meets one block alone.
    search = Search(
        fetched_share=shares[4],
        own_segments=segments[1],
        block_segments=(segments[3] - segments[1]) / 2,
        own_launches=operations[1],
        block_launches=operations[3] - operations[1],
    )
    for row in rows:
        row["segments_per_anchor"] = compared(search.segments(row["ranks"]), segments[row["ranks"]])
        row["operations"] = compared(search.launches(COUNT_ROWS, row["ranks"]), operations[row["ranks"]])
    return search, rows


def check_times(network: NetworkCost, rounds: int) -> dict[str, Any]:
    """Predict steps and losses from those of one rank in two passes and at two batch sizes."""
    one: list[dict[str, Any]] = []
    two: list[dict[str, Any]] = []
    for number in range(rounds):
        shared = {"model": network.name, "step_batch": STEP_BATCH, "steps": 2, "loss_batches": LOSS_BATCHES}
        work = Work(**shared, micros=(MICRO, STEP_BATCH), dim=LOSS_DIM, count_rows=0)  # type: ignore[arg-type]
        groups = [(1, work, one), (2, replace(work, micros=(MICRO,)), two)]
        for ranks, group_work, results in groups[:: 1 if number % 2 == 0 else -1]:
            results.append(measure(ranks, group_work))

    def seconds(results: list[dict[str, Any]], kind: str, key: str) -> float:
        return float(statistics.median(value for result in results for value in result[kind][key]))

    step = seconds(one, "step_seconds", str(MICRO))
    reduce = statistics.median(value for result in two for value in result["all_reduce_seconds"])
    passes = network.forward_flops / (2 * network.forward_flops + network.backward_flops)
    small, middle, large = (seconds(one, "loss_seconds", str(batch)) for batch in LOSS_BATCHES)
    # t = a · pairs + b · rows of a rank, from the smallest and the largest batch.
    first, _, last = LOSS_BATCHES
    pairs = [searched_pairs(batch, 1) for batch in (first, last)]
    per_pair = (large - small * last / first) / (pairs[1] - pairs[0] * last / first)
    per_row = (small - per_pair * pairs[0]) / first

    def loss(batch: int, ranks: int) -> float:
        return per_pair * searched_pairs(batch, ranks) + per_row * batch / ranks

    return {
        "step_seconds_two_ranks": compared(step / 2 + reduce, seconds(two, "step_seconds", str(MICRO))),
        "step_seconds_one_pass": compared(step * (1 - passes), seconds(one, "step_seconds", str(STEP_BATCH))),
        "network_flops_per_second": 2 * STEP_BATCH * (2 * network.forward_flops + network.backward_flops) / step,
        "mining_seconds_one_rank": {str(LOSS_BATCHES[1]): compared(loss(LOSS_BATCHES[1], 1), middle)},
        "mining_seconds_two_ranks": {
            str(batch): compared(loss(batch, 2), seconds(two, "loss_seconds", str(batch))) for batch in LOSS_BATCHES
        },
        # What a rank hands to the all-reduce; in a ring it sends 2 (W − 1)/W of it.
        "gradient_bytes": compared(gradient_bytes(network.trained, 2), two[0]["gradient_bytes"]),
    }


def written_bytes(name: str) -> int:
    """The files of one commit's state, written by torch.distributed.checkpoint."""
    state = engine_of(load(name), World()).state_dict()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.save(state, storage_writer=dcp.FileSystemWriter(folder, sync_files=False), no_dist=True)
        return sum(path.stat().st_size for path in Path(folder).iterdir())


def describe(network: NetworkCost) -> dict[str, Any]:
    return {
        "dim": network.dim,
        "parameters": network.parameters,
        "forward_gflops": round(network.forward_flops / 1e9, 3),
        "backward_gflops": round(network.backward_flops / 1e9, 3),
        "forward_mbytes": round(sum(op.bytes for op in network.forward) / 1e6, 1),
        "backward_mbytes": round(sum(op.bytes for op in network.backward) / 1e6, 1),
        "kernels": [len(network.forward), len(network.backward)],
        "activation_mbytes": round(network.activation_bytes / 1e6, 1),
        "checkpoint_bytes": checkpoint_bytes(network),
    }


def model(network: NetworkCost, hardware: Hardware, search: Search) -> list[dict[str, Any]]:
    """Every batch at every number of ranks into which it divides in whole pairs."""
    points = []
    for batch in BATCHES:
        for ranks in RANKS:
            if batch % (2 * ranks):
                continue
            step = step_cost(network, hardware, search, batch=batch, ranks=ranks, micro=GPU_MICRO)
            alone = step_cost(network, hardware, search, batch=batch, ranks=1, micro=GPU_MICRO)
            around = around_cost(step, hardware, images=WEBFACE42M[0])
            points.append(
                asdict(step)
                | {"seconds": step.seconds, "images_per_second": step.images_per_second}
                | {"efficiency": alone.seconds / (ranks * step.seconds), "exchange_share": step.exchange / step.seconds}
                | {"fits": step.device_bytes < hardware.memory_bytes}
                | {"around": asdict(around), "commit": asdict(commit_cost(network, hardware, ranks=ranks))}
            )
    return points


def tables(costs: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: the split of a step, and what a cluster around it must deliver, for 8, 64 and 512 H100."""
    lines = []
    for name, points in costs.items():
        lines += [
            f"\n**{name}**\n",
            "| B | GPUs | network | mining | exchange | all-reduce | step | efficiency | images/s | memory |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for point in points:
            if point["ranks"] in (8, 64, 512):
                times = [
                    f"{1000 * point[part]:,.1f}" for part in ("network", "mining", "exchange", "all_reduce", "seconds")
                ]
                lines.append(
                    f"| {point['batch']:,} | {point['ranks']} | {' | '.join(times)} ms | {point['efficiency']:.1%} "
                    f"| {point['images_per_second']:,.0f} | {point['device_bytes'] / 2**30:.1f} GiB |"
                )
    lines += [
        "\n| network | GPUs | decoding cores per GPU | disk per node | fetched, all nodes | GETs/s | epoch |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, points in costs.items():
        for point in points:
            if point["ranks"] in (8, 64, 512) and point["batch"] == BATCHES[-1]:
                around = point["around"]
                lines.append(
                    f"| {name} | {point['ranks']} | {around['cores_per_rank']:.2f} "
                    f"| {around['read_bytes_per_second'] / 1e6:,.0f} MB/s "
                    f"| {around['fetched_bytes_per_second'] / 1e9:,.1f} GB/s | {around['gets_per_second']:,.0f} "
                    f"| {around['epoch_seconds']:,.0f} s |"
                )
    lines += ["\n| network | commit | stall | parts on 512 ranks |", "|---|---|---|---|"]
    for name, points in costs.items():
        commit = points[-1]["commit"]
        lines.append(
            f"| {name} | {commit['bytes'] / 1e6:,.1f} MB | {1000 * commit['stall_seconds']:.1f} ms | {commit['puts']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
