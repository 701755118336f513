"""Products as precise as the bounds take for granted, whatever the process has chosen for its network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def trusted_products() -> Iterator[None]:
    """No TF32 or bf16 behind an fp32 product, no fp16 in the sums of a half-precision one."""
    # PyTorch's annotations leave mkldnn's out.
    cuda, cpu = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = cuda.fp32_precision, cpu.fp32_precision, cuda.allow_fp16_reduced_precision_reduction
    cuda.fp32_precision = cpu.fp32_precision = "ieee"
    cuda.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        cuda.fp32_precision, cpu.fp32_precision, cuda.allow_fp16_reduced_precision_reduction = before
