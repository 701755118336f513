"""DeepSpeed's own configuration: the user's block, checked against what octoscale sets."""

from collections.abc import Mapping
from typing import Any

from octoscale.distributed.engine import AUTOCAST_DTYPE, Precision
from octoscale.errors import OctoscaleError

# What octoscale carries out itself; a block of DeepSpeed's would replace it, or be ignored.
_OURS = {
    "optimizer": "optimizer.name",
    "scheduler": "schedule.name",
    "fp16": "precision",
    "bf16": "precision",
    "amp": "precision",
    "torch_autocast": "precision",
    "data_types": "precision",
}


def deepspeed_config(
    block: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    global_batch_size: int,
    rank_batch_size: int,
    precision: Precision,
    max_gradient_norm: float | None,
) -> dict[str, Any]:
    """The configuration for `deepspeed.initialize`.

    Args:
        block: the user's ``deepspeed:``; ``"auto"`` stands for octoscale's value.
        settings: octoscale's, by key, for messages: those that `_OURS` names.
        global_batch_size, rank_batch_size, precision, max_gradient_norm: of the run.

    Raises:
        OctoscaleError: a value of the block is not the run's; both are named.
    """
    for key, ours in _OURS.items():
        if block.get(key, "auto") != "auto":
            raise OctoscaleError(
                f"deepspeed.{key} is {block[key]}, but octoscale sets that by {ours}, which is {settings[ours]}: "
                f"remove deepspeed.{key}"
            )
    if (stage := zero_stage(block)) not in (0, 1, 2, 3):
        raise OctoscaleError(f"deepspeed.zero_optimization.stage is {stage!r}; choose 0, 1, 2 or 3")
    ranks = global_batch_size // rank_batch_size
    fixed = {
        "train_batch_size": (global_batch_size, "global_batch_size"),
        # One reduction and one optimizer step per global batch: octoscale's chunks are none of DeepSpeed's business.
        "train_micro_batch_size_per_gpu": (rank_batch_size, f"global_batch_size ÷ {ranks} ranks"),
        "gradient_accumulation_steps": (1, "one global batch per step, cut into chunks by micro_batch_size"),
        "managed_gradient_accumulation": (True, "one reduction per step"),
        "gradient_clipping": (max_gradient_norm or 0.0, "optimizer.max_gradient_norm"),
    }
    for key, (value, source) in fixed.items():
        if block.get(key, "auto") not in ("auto", value):
            raise OctoscaleError(
                f"deepspeed.{key} is {block[key]}, but {value} follows from the run ({source}): "
                f"remove deepspeed.{key}, or set them alike"
            )
    config: dict[str, Any] = {
        # Its throughput lines: octoscale logs its own.
        "steps_per_print": None,
        **{key: value for key, value in block.items() if key not in _OURS},
        **{key: value for key, (value, _) in fixed.items()},
        # The optimizers are PyTorch's, handed over as they are.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if (dtype := AUTOCAST_DTYPE[precision]) is not None:
        # The same as under DDP, and gradients are sent in fp32, as there.
        name = str(dtype).removeprefix("torch.")
        config["torch_autocast"] = {"enabled": True, "dtype": name, "lower_precision_safe_modules": []}
    return config


def zero_stage(block: Mapping[str, Any]) -> Any:
    """ZeRO's stage, as it is in the block; 0 where it is left out."""
    zero = block.get("zero_optimization", {})
    if not isinstance(zero, Mapping):
        raise OctoscaleError(f"deepspeed.zero_optimization is {zero!r}; it must be a block with a stage")
    return zero.get("stage", 0)
