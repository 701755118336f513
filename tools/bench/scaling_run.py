"""What the cost model gives for a run's configuration: the figures in the headers of configs/scale.

    python tools/bench/scaling_run.py configs/scale/b4096_1gpu.yaml --data ms1mv2 [--device h100]

Prints text; nothing is measured. The run has as many ranks as `resilience.workers` allows at most, each on a GPU of its
own. An epoch has as many steps as the images of the data set allow at most; evaluations and commits are left out.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

from support.calibrated import COUNTED, calibrated
from support.cluster_cost import IMAGE_BYTES, around_cost, commit_cost
from support.cost_model import step_cost
from support.hardware import GIB, Hardware
from support.network_cost import network_cost
from support.shapes import MS1M, WEBFACE42M

from octoscale.config import Config, load_config
from octoscale.data.plan import rank_batch_size
from octoscale.models.registry import NAMES

DATA = {"ms1mv2": ("MS1M-V2", MS1M[0]), "webface42m": ("WebFace42M", WEBFACE42M[0])}
DEVICES = {"h100": 0, "h200": 1}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", choices=DATA, required=True, help="the data set, of which only the size matters")
    parser.add_argument("--device", choices=DEVICES, default="h100")
    given = parser.parse_args(arguments)
    config = load_config(given.config)
    if config.model.name not in NAMES or config.precision != "bf16" or config.model.batch_norm != "frozen":
        parser.error(
            f"the model knows built-in networks in bf16 with frozen batch norm, not {config.model.name} in "
            f"{config.precision} with {config.model.batch_norm}"
        )
    if config.optimizer.name != "adamw" or config.engine != "ddp" or config.model.activation_checkpointing:
        parser.error("the model knows AdamW and DDP, and networks that keep their activations")
    if config.distillation or len(config.loss.terms) < 4 or config.loss.negatives != "hardest":
        parser.error("the model knows the octuplet loss of four terms with hardest negatives, and no distillation")
    device = calibrated(network_cost("iresnet50"))[DEVICES[given.device]]
    print("\n".join(figures(config, device, *DATA[given.data])))


def figures(config: Config, device: Hardware, data: str, images: int) -> Iterator[str]:
    """What the run costs in time and memory, on `images` of the data set called `data`."""
    network, ranks = network_cost(config.model.name), config.resilience.world.maximum
    rows = rank_batch_size(config.global_batch_size, ranks)
    step = step_cost(
        network, device, COUNTED, batch=config.global_batch_size, ranks=ranks, micro=config.micro_batch_size or rows
    )
    around, commit = around_cost(step, device, images=images), commit_cost(network, device, ranks=ranks)
    count = math.ceil(ranks / device.per_node)
    nodes = "1 node" if count == 1 else f"{count} nodes"

    parts = {"network": step.network, "mining": step.mining, "exchange": step.exchange, "all-reduce": step.all_reduce}
    split = ", ".join(f"{part} {1000 * seconds:,.1f}" for part, seconds in parts.items())
    yield f"machine   {ranks} × {device.name}, {device.memory_bytes / 1e9:.0f} GB each, on {nodes}"
    yield f"step      {1000 * step.seconds:,.1f} ms: {split}; {step.images_per_second:,.0f} images/s"
    yield (
        f"memory    {step.device_bytes / GIB:.1f} GiB of each GPU's {device.memory_bytes / GIB:.1f}; "
        f"{step.host_bytes / GIB:.1f} GiB of images per rank in host memory"
    )
    steps = config.steps
    if config.epochs is not None:
        per_epoch = images // config.global_batch_size
        steps = config.epochs * per_epoch
        yield (
            f"epoch     {data}, {images:,} images: at most {per_epoch:,} steps, "
            f"{per_epoch * step.seconds / 60:,.1f} minutes"
        )
    assert steps is not None
    yield f"run       {steps:,} steps, {steps * step.seconds / 3600:,.1f} hours without evaluations"
    epochs = "the first epoch" if config.data.mode == "resident" else "every epoch"
    yield f"commit    {commit.bytes / 1e6:,.0f} MB, for which the steps wait {1000 * commit.stall_seconds:.0f} ms"
    yield (
        f"data      {images * IMAGE_BYTES / 1e9:,.0f} GB; {around.cores_per_rank:.2f} cores per GPU decode; "
        f"a node reads {around.read_bytes_per_second / 1e6:,.0f} MB/s; "
        f"at most {around.fetched_bytes_per_second / 1e6:,.0f} MB/s are fetched by {nodes} in {epochs}"
    )


if __name__ == "__main__":
    main()
