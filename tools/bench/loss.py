"""Time and memory of the octuplet loss, forward and backward, side by side with other ways to compute it.

    python tools/bench/loss.py [--batches 256 1024 4096] [--png loss.png] [--device cuda]

Prints JSON. The others are batch-hard mining on four torch.cdist matrices, pytorch-metric-learning's miner and triplet
loss once per term, and the one 2B × 2B matrix of the authors' code; beside them the bare matrix products that any of
them needs. All take turns in one run; read the ratios, not the seconds, and those only from a quiet machine.

Memory is measured in a fresh process per method and batch: its peak during the call beyond what it held before,
without the embeddings and their gradients. A method that passes the memory or the time limit is reported as such,
and not tried at larger batches. Needs `pip install octoscale[bench]`.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from support.loss_figure import draw
from support.losses import LOSSES, Loss, bare_products, embeddings, needed_flops
from support.measure import (
    Call,
    describe_machine,
    matmul_flops_per_second,
    peak_bytes_of,
    ratio,
    seconds_of,
    take_turns,
)
from torch import Tensor

GEMMS = "gemms"
METHODS = (*LOSSES, GEMMS)
WARM_UP_BATCH = 64
AGREEMENT_BATCH = 256
OUT_OF_MEMORY, TOO_SLOW = "out of memory", "too slow"


@dataclass(frozen=True)
class Inputs:
    """Leaves with a gradient, so that each call costs what it costs in training."""

    high: Tensor
    low: Tensor
    identities: Tensor

    @classmethod
    def make(cls, batch: int, dim: int, device: torch.device, dtype: torch.dtype = torch.float32) -> "Inputs":
        high, low, identities = embeddings(batch, dim, device)
        return cls(high.to(dtype).requires_grad_(), low.to(dtype).requires_grad_(), identities)

    @property
    def gradient_bytes(self) -> int:
        return self.high.nbytes + self.low.nbytes


def forward_backward(loss: Loss, inputs: Inputs) -> float:
    inputs.high.grad = inputs.low.grad = None
    value = loss(inputs.high, inputs.low, inputs.identities)
    value.backward()
    return float(value.detach())


def call_of(method: str, inputs: Inputs) -> Call:
    if method == GEMMS:
        return partial(bare_products, torch.cat([inputs.high, inputs.low]).detach())
    loss = LOSSES[method]()

    def call() -> None:
        forward_backward(loss, inputs)

    return call


def warm_up(method: str, dim: int, device: torch.device) -> None:
    """Starts threads and libraries on few rows; what it leaves in the allocator is small."""
    call_of(method, Inputs.make(WARM_UP_BATCH, dim, device))()


# One measurement in its own process.


def probe(method: str, batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One call of `method` in a fresh process: its extra memory and first time, or why there are none."""
    options = {
        "--dim": arguments.dim,
        "--device": arguments.device,
        "--threads": torch.get_num_threads(),
        "--memory-limit-gib": arguments.memory_limit_gib,
    }
    command = [sys.executable, __file__, "--probe", method, "--batches", str(batch)]
    command += [str(part) for option in options.items() for part in option]
    try:
        # The process starts and makes its inputs first.
        done = subprocess.run(command, capture_output=True, text=True, timeout=arguments.time_limit_seconds + 60)
    except subprocess.TimeoutExpired:
        return {"status": TOO_SLOW}
    if done.returncode == -9:  # by the kernel, when the machine itself has no more
        return {"status": OUT_OF_MEMORY}
    if done.returncode:
        raise RuntimeError(f"{method} at B = {batch} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found.get("first_seconds", 0) > arguments.time_limit_seconds:
        return {"status": TOO_SLOW}
    return found


def run_probe(method: str, batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The other side of `probe`."""
    device = torch.device(arguments.device)
    inputs = Inputs.make(batch, arguments.dim, device)
    warm_up(method, arguments.dim, device)
    call = call_of(method, inputs)
    seconds: list[float] = []

    def timed() -> None:
        seconds.append(seconds_of(call, device))

    try:
        peak_bytes = peak_bytes_of(timed, device, limit_bytes=int(arguments.memory_limit_gib * 2**30))
    except MemoryError:
        return {"status": OUT_OF_MEMORY}
    extra_bytes = peak_bytes - (0 if method == GEMMS else inputs.gradient_bytes)
    return {"status": "measured", "extra_bytes": max(0, extra_bytes), "first_seconds": seconds[0]}


# All methods at one batch size.


def agreement(inputs: Inputs, methods: list[str]) -> dict[str, Any]:
    """Loss of each, and how far loss and gradient are from ours, relative (gradient: in the Euclidean norm)."""
    found: dict[str, tuple[float, Tensor]] = {}
    for method in methods:
        value = forward_backward(LOSSES[method](), inputs)
        assert inputs.high.grad is not None
        assert inputs.low.grad is not None
        found[method] = value, torch.cat([inputs.high.grad, inputs.low.grad])
    value, gradient = found["octoscale"]
    return {
        method: {
            "loss": other,
            "loss_difference": abs(other - value) / value,
            "gradient_difference": float((their_gradient - gradient).norm() / gradient.norm()),
        }
        for method, (other, their_gradient) in found.items()
    }


def measure(batch: int, dropped: dict[str, str], arguments: argparse.Namespace, flops_rate: float) -> dict[str, Any]:
    """Everything at one B. `dropped` holds why a method is tried no more, and grows."""
    device = torch.device(arguments.device)
    methods: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        if method in dropped:
            methods[method] = {"status": dropped[method]}
            continue
        print(f"B = {batch}: {method}", file=sys.stderr, flush=True)
        methods[method] = probe(method, batch, arguments)
        if methods[method]["status"] != "measured":
            dropped[method] = f"{methods[method]['status']} at B = {batch}"
    running = [method for method in METHODS if methods[method]["status"] == "measured"]
    if not running:
        return {"batch": batch, "methods": methods}

    inputs = Inputs.make(batch, arguments.dim, device)
    calls = {method: call_of(method, inputs) for method in running}
    for method in running:
        warm_up(method, arguments.dim, device)
    seconds = take_turns(calls, device, rounds=arguments.rounds, budget_seconds=arguments.budget_seconds)
    flops = needed_flops(batch, arguments.dim)
    for method in running:
        median = statistics.median(seconds[method])
        methods[method] |= {
            "seconds_median": round(median, 6),
            "seconds_min": round(min(seconds[method]), 6),
            "rounds": len(seconds[method]),
            "fraction_of_matmul_rate": round(flops / median / flops_rate, 4),
        }
        for reference in ("octoscale", GEMMS):
            if reference in running and method != reference:
                methods[method][f"over_{reference}"] = ratio(seconds[method], seconds[reference])
    compared = [method for method in running if method != GEMMS]
    result: dict[str, Any] = {"batch": batch, "needed_flops": flops, "methods": methods}
    if "octoscale" in compared and len(compared) > 1:
        result["agreement_fp32"] = agreement(inputs, compared)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--batches", type=int, nargs="+", default=[256, 1024, 4096, 16384], help="B; even, ascending")
    add("--dim", type=int, default=512)
    add("--rounds", type=int, default=7, help="at most; large batches take fewer")
    add("--budget-seconds", type=float, default=60.0, help="no new round begins after this long at one B")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--device", default="cpu", help="cpu or cuda")
    add("--memory-limit-gib", type=float, default=12.0, help="beyond the embeddings, of one method")
    add("--time-limit-seconds", type=float, default=300.0, help="of one call")
    add("--png", type=Path, help="draw the result here")
    add("--probe", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.probe:
        print(json.dumps(run_probe(arguments.probe, arguments.batches[0], arguments)))
        return

    device = torch.device(arguments.device)
    machine = describe_machine(device)
    if machine["load_before"] > 1:
        print(f"the machine is busy (load {machine['load_before']}): the times will mislead", file=sys.stderr)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    flops_rate = matmul_flops_per_second(device, dtype)
    check = Inputs.make(AGREEMENT_BATCH, arguments.dim, device, torch.float64)
    dropped: dict[str, str] = {}
    result = {
        "device": arguments.device,
        "dim": arguments.dim,
        "matmul": {"dtype": str(dtype).removeprefix("torch."), "flops_per_second": flops_rate},
        "agreement_fp64": {"batch": AGREEMENT_BATCH, **agreement(check, list(LOSSES))},
        "batches": [measure(batch, dropped, arguments, flops_rate) for batch in sorted(arguments.batches)],
        "memory_limit_gib": arguments.memory_limit_gib,
        "time_limit_seconds": arguments.time_limit_seconds,
        "versions": {name: version(name) for name in ("octoscale", "torch", "pytorch-metric-learning")},
        "machine": machine,
    }
    print(json.dumps(result, indent=1))
    if arguments.png:
        draw(result, arguments.png)


if __name__ == "__main__":
    main()
