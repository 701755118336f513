"""Time and memory of one call, on a CPU or a CUDA device, and calls that take turns."""

import ctypes
import gc
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Call = Callable[[], None]


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a reader needs to know to compare the figures with their own.

    The load is the average number of processes that wanted a core in the last minute. Beside others, calls with many
    short parallel regions suffer more than one long product: with a load above 1 here not even ratios can be trusted.
    """
    machine: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
    }
    if device.type == "cuda":
        machine["device"] = torch.cuda.get_device_name(device)
    return machine


def seconds_of(call: Call, device: torch.device) -> float:
    """Wall-clock seconds of `call`, until the device is done with it."""
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def peak_bytes_of(call: Call, device: torch.device, *, limit_bytes: int) -> int:
    """The most memory that `call` held at once, beyond what this process held before it.

    On a CPU the resident set as the kernel counts it; on CUDA the tensors as PyTorch counts them. Run it once
    per process: the limit stays.

    Raises:
        MemoryError: it would have taken more than `limit_bytes`.
    """
    gc.collect()
    try:
        if device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated(device)
            torch.cuda.set_per_process_memory_fraction(min(1.0, (before + limit_bytes) / total), device)
            torch.cuda.reset_peak_memory_stats(device)
            call()
            torch.cuda.synchronize(device)
            return torch.cuda.max_memory_allocated(device) - before
        # What was freed before and is still resident would be used again, unseen.
        ctypes.CDLL(None).malloc_trim(0)
        resource.setrlimit(resource.RLIMIT_AS, (_status_bytes("VmSize") + limit_bytes, resource.RLIM_INFINITY))
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is resident now
        before = _status_bytes("VmRSS")
        call()
        return _status_bytes("VmHWM") - before
    except RuntimeError as error:
        if "allocate" in str(error) or "out of memory" in str(error).lower():
            raise MemoryError(str(error)) from error
        raise


def take_turns(
    calls: Mapping[str, Call], device: torch.device, *, rounds: int, budget_seconds: float
) -> dict[str, list[float]]:
    """Seconds of each call, round by round, so that a busy machine slows all of them alike.

    Every other round goes backwards: none always follows the same neighbour's cold or warm caches.

    Args:
        rounds: at most this many, at least one.
        budget_seconds: no further round begins after this long.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    for number in range(rounds):
        if number and time.perf_counter() - started > budget_seconds:
            break
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            seconds[name].append(seconds_of(calls[name], device))
    return seconds


def ratio(seconds: list[float], reference: list[float]) -> dict[str, float]:
    """How much longer than the reference, from the rounds in which both ran."""
    ratios = [ours / theirs for ours, theirs in zip(seconds, reference, strict=True)]
    values = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {name: round(value, 3) for name, value in values.items()}


def matmul_flops_per_second(device: torch.device, dtype: torch.dtype, size: int = 4096, rounds: int = 5) -> float:
    """The machine's own rate: the best of a few products of two square matrices."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty(size, size, device=device, dtype=dtype)
    fastest = min(seconds_of(lambda: _product(a, b, out), device) for _ in range(rounds))
    return 2 * size**3 / fastest


def _product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    torch.mm(a, b, out=out)


def _status_bytes(field: str) -> int:
    """A field of this process's /proc status that is given in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status has no {field}; the memory is measured on Linux")


def _processor() -> str:
    models = [line for line in _cpuinfo() if line.startswith("model name")]
    return models[0].partition(":")[2].strip() if models else platform.machine()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
