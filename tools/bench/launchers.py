"""Throughput of the same run under Ray Train and under torchrun, side by side.

    python tools/bench/launchers.py [--workers 2] [--threads 1] [--batch 64] [--steps 60] [--rounds 3]

Prints JSON: images per second of the run's steps (the first ten and the start of the workers are left out), and the
ratio of the medians. The two take turns, so that a busy machine slows both; read the ratio, not the numbers. Ray runs
its workers at a niceness of 15, so torchrun gets the same: else whatever runs beside them would slow only one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from support.measure import describe_machine

from octoscale.data.importers.synthetic import write_synthetic_faces
from octoscale.data.pack import pack
from octoscale.data.storage import Store
from octoscale.journal import read_journal

WARM_UP_STEPS = 10
RAY_NICENESS = 15


def command_of(launcher: str, config: Path, workers: int) -> list[str]:
    if launcher == "ray":
        return [sys.executable, "-m", "octoscale.cli", "launch", str(config), "--workers", str(workers), "--quiet"]
    return ["nice", f"--adjustment={RAY_NICENESS}", sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={workers}", "-m", "octoscale.cli", "train", str(config), "--quiet"]  # fmt: skip


def images_per_second(launcher: str, values: dict[str, Any], workers: int, threads: int, folder: Path) -> float:
    """One run, with `threads` for each rank; the median of its steps, data included."""
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        config = Path(directory, "run.yaml")
        config.write_text(yaml.safe_dump({**values, "directory": f"{directory}/run"}))
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command_of(launcher, config, workers), check=True, env=environment, stdout=subprocess.DEVNULL)
        steps = read_journal(Store(f"{directory}/run"))[WARM_UP_STEPS:]
    batch: int = values["global_batch_size"]
    return batch / statistics.median(line.step_seconds + line.data_wait_seconds for line in steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of a rank; by default the machine's, shared among the ranks")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    threads = arguments.threads or max(1, (os.cpu_count() or 1) // arguments.workers)
    rates: dict[str, list[float]] = {"torchrun": [], "ray": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic_faces(
            folder / "faces", identities=max(64, arguments.batch), images_per_identity=4, verify_identities=20,
            verify_images_per_identity=3, verify_pairs=4, image_size=112,
        )  # fmt: skip
        pack(str(folder / "faces" / "train"), str(folder / "packed"))
        values = {
            "global_batch_size": arguments.batch,
            "steps": arguments.steps,
            "data": {"url": str(folder / "packed")},
            "model": {"name": "mobilefacenet"},
            "optimizer": {"name": "adamw", "learning_rate": 1e-4},
            "schedule": {"name": "constant"},
            "checkpoint": {"every_steps": arguments.steps},
            "telemetry": {"recorders": []},
        }
        for _ in range(arguments.rounds):
            for launcher, found in rates.items():
                found.append(images_per_second(launcher, values, arguments.workers, threads, folder))
    medians = {launcher: statistics.median(found) for launcher, found in rates.items()}
    result = {
        "machine": describe_machine(torch.device("cpu")),
        "workers": arguments.workers,
        "threads_per_worker": threads,
        "global_batch_size": arguments.batch,
        "steps": arguments.steps - WARM_UP_STEPS,
        "versions": {"ray": version("ray"), "torch": torch.__version__},
        "images_per_second": {launcher: [round(rate, 2) for rate in found] for launcher, found in rates.items()},
        "ray_over_torchrun": round(medians["ray"] / medians["torchrun"], 3),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
