"""What an epoch's plan costs, and how much of the data it uses: resident and windowed.

    python tools/bench/plan.py [--small] [--window 0.1]

Prints JSON. Each plan is computed in a fresh process; its peak memory is what that process holds beyond its imports,
the finished plan (8 bytes per image) included. Images per identity are drawn from a log-normal distribution
(σ = 0.7, at least 2) with the totals of MS1MV2 and of WebFace42M; the tail is our choice, not theirs. Shards are
striped as `octoscale pack` does: runs of eight images of an identity, shuffled, 64 MiB at 25 KiB per image.

Coverage: images used ÷ all. Its bound is that of any plan: an identity with an odd number keeps one image, and one
identity gives a batch only two. The paper's rule stays below the bound where a batch takes a large part of all
identities: most are used up before the largest.

Of the windowed plan, too: the shards that are in use at a time, i.e. from their first to their last image, as a part of
all shards, and how soon the images of a shard are used after its first one. A cache that keeps whole shards
has to hold all shards in use; one that drops images once they are used holds the window.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from support.measure import describe_machine, peak_bytes_of, seconds_of
from support.shapes import MS1M, WEBFACE42M, long_tailed_counts, striped_shards

import octoscale
from octoscale.data.plan import epoch_plan
from octoscale.data.windowed_plan import windowed_plan

CPU = torch.device("cpu")
LIMIT_BYTES = 16 * 2**30
CASES = [(*MS1M, 256), (*MS1M, 65_536), (*WEBFACE42M, 4_096)]
SMALL_CASES = [(582_265, 8_574, 256), (582_265, 8_574, 6_554)]


def most_batches(counts: NDArray[np.int64], batch_size: int) -> int:
    """Of any plan: a batch takes one pair of an identity, so k batches take at most k of its pairs."""
    pairs, low, high = counts // 2, 0, int(counts.sum()) // batch_size
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(pairs, middle).sum() >= middle * (batch_size // 2):
            low = middle
        else:
            high = middle - 1
    return low


def shards_in_use(plan: NDArray[np.int64], shard_ids: NDArray[np.int32]) -> dict[str, Any]:
    """From a shard's first image to its last, in parts of the epoch and of all shards."""
    shards = int(shard_ids.max()) + 1
    used_at = np.repeat(np.arange(len(plan), dtype=np.int32), plan.shape[1])
    shard_of_use = shard_ids[plan.ravel()]
    first, last = np.full(shards, len(plan)), np.full(shards, -1)
    np.minimum.at(first, shard_of_use, used_at)
    np.maximum.at(last, shard_of_use, used_at)
    change = np.bincount(first[last >= 0], minlength=len(plan) + 1)
    change -= np.bincount(last[last >= 0] + 1, minlength=len(plan) + 1)
    in_use = np.cumsum(change)[: len(plan)] / shards
    waits = (used_at - first[shard_of_use]) / len(plan)
    quantiles = (0.5, 0.9, 0.99, 1.0)
    return {
        "shards": shards,
        "in_use_mean": round(float(in_use.mean()), 3),
        "in_use_max": round(float(in_use.max()), 3),
        "image_used_after_epochs_quantiles": {
            str(quantile): round(float(value), 3)
            for quantile, value in zip(quantiles, np.quantile(waits, quantiles), strict=True)
        },
    }


def plan_once(folder: Path, batch_size: int, window: float | None) -> None:
    """Compute a plan, in this process, and print its figures."""
    counts = np.load(folder / "counts.npy")
    shard_ids = np.load(folder / "shard_ids.npy", mmap_mode="r")
    offsets = np.concatenate([[0], np.cumsum(counts)])
    plans: list[NDArray[np.int64]] = []
    seconds: list[float] = []

    def compute() -> None:
        if window is None:
            plans.append(epoch_plan(counts, global_batch_size=batch_size, seed=0, epoch=0))
        else:
            plans.append(
                windowed_plan(offsets, shard_ids, global_batch_size=batch_size, seed=0, epoch=0, window_fraction=window)
            )

    peak = peak_bytes_of(lambda: seconds.append(seconds_of(compute, CPU)), CPU, limit_bytes=LIMIT_BYTES)
    figures: dict[str, Any] = {
        "seconds": round(seconds[0], 2),
        "peak_mib": round(peak / 2**20),
        "batches": len(plans[0]),
        "coverage": round(plans[0].size / len(shard_ids), 4),
    }
    if window is not None:
        figures["shards"] = shards_in_use(plans[0], shard_ids)
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tenth of MS1MV2 alone, in seconds")
    parser.add_argument("--window", type=float, default=0.1, help="window_fraction of the windowed plans")
    parser.add_argument("--plan-once", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan_once:
        folder, batch_size, window = arguments.plan_once
        plan_once(Path(folder), int(batch_size), None if window == "resident" else float(window))
        return

    machine = describe_machine(CPU)
    cases = []
    with tempfile.TemporaryDirectory(prefix="octoscale-plan-") as name:
        written = None
        for images, identities, batch_size in SMALL_CASES if arguments.small else CASES:
            counts = long_tailed_counts(images, identities)
            if written != (images, identities):
                np.save(Path(name, "counts.npy"), counts)
                np.save(Path(name, "shard_ids.npy"), striped_shards(counts))
                written = (images, identities)
            case = {
                "images": images,
                "identities": identities,
                "images_per_identity_max": int(counts.max()),
                "global_batch_size": batch_size,
                "coverage_bound": round(most_batches(counts, batch_size) * batch_size / images, 4),
            }
            for mode in ("resident", str(arguments.window)):
                command = [sys.executable, __file__, "--plan-once", name, str(batch_size), mode]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                case["resident" if mode == "resident" else "windowed"] = json.loads(done.stdout)
            cases.append(case)
    versions = {"octoscale": octoscale.__version__, "numpy": np.__version__}
    print(
        json.dumps(
            {"window_fraction": arguments.window, "plans": cases, "versions": versions, "machine": machine}, indent=1
        )
    )


if __name__ == "__main__":
    main()
