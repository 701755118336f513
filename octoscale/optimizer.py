"""The paper's optimizers (§4.2) and the learning rate as a pure function of the run's progress."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch.nn import Parameter

from octoscale.settings import Settings


class OptimizerConfig(Settings):
    """Which optimizer; options left out take the optimizer's own default.

    The paper: SGD 0.001 (MagFace), AdamW 0.0005 with epsilon 1e-8 (FaceTransformer), Adagrad 0.01 with
    epsilon 1.0 (all others).
    """

    name: Literal["sgd", "adamw", "adagrad"] = "adamw"
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    epsilon: float | None = Field(None, gt=0, description="adamw (1e-8) and adagrad (1.0)")
    momentum: float | None = Field(None, ge=0, lt=1, description="sgd (0.9)")
    max_gradient_norm: float | None = Field(None, gt=0, description="clip the global gradient norm to this")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "OptimizerConfig":
        if self.name == "sgd" and self.epsilon is not None:
            raise ValueError("sgd has no epsilon; remove optimizer.epsilon")
        if self.name != "sgd" and self.momentum is not None:
            raise ValueError(f"{self.name} has no momentum; remove optimizer.momentum")
        return self


class ScheduleConfig(Settings):
    """How the learning rate moves. Milestones are in the unit of the run's length: epochs, or steps."""

    name: Literal["constant", "cosine", "step"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    milestones: tuple[float, ...] | None = Field(None, description="step: divide by ten after each of these")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "ScheduleConfig":
        if (self.name == "step") != (self.milestones is not None):
            raise ValueError("schedule.milestones belongs to schedule.name=step, and to it alone")
        return self


def build_optimizer(parameters: Iterable[Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured optimizer over those parameters that are trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "sgd":
        momentum = 0.9 if config.momentum is None else config.momentum
        return torch.optim.SGD(trained, lr=rate, momentum=momentum, weight_decay=decay)
    if config.name == "adamw":
        return torch.optim.AdamW(trained, lr=rate, eps=config.epsilon or 1e-8, weight_decay=decay)
    return torch.optim.Adagrad(trained, lr=rate, eps=config.epsilon or 1.0, weight_decay=decay)


def learning_rate_at(schedule: ScheduleConfig, base: float, *, step: int, done: float, length: float) -> float:
    """The learning rate of one step: it needs no state, so resuming is exact.

    Args:
        schedule: shape of the curve.
        base: the rate after warm-up.
        step: optimizer steps done so far.
        done: progress so far in the unit of `length`, epochs (with fraction) or steps.
        length: the whole run, in the same unit.
    """
    warmup = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
    if schedule.name == "cosine":
        return base * warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, done / length)))
    if schedule.name == "step":
        assert schedule.milestones is not None
        return float(base * warmup * 0.1 ** sum(done >= milestone for milestone in schedule.milestones))
    return base * warmup
