"""Optimizers with the paper's settings, and the learning rate over a run."""

import pytest
import torch
from pydantic import ValidationError

from octoscale.optimizer import OptimizerConfig, ScheduleConfig, build_optimizer, learning_rate_at


def test_defaults_are_the_papers() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    adagrad = build_optimizer([parameter], OptimizerConfig(name="adagrad", learning_rate=0.01))
    assert isinstance(adagrad, torch.optim.Adagrad)
    assert adagrad.defaults["eps"] == 1.0
    adamw = build_optimizer([parameter], OptimizerConfig(name="adamw", learning_rate=0.0005))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["eps"] == 1e-8
    sgd = build_optimizer([parameter], OptimizerConfig(name="sgd", learning_rate=0.001))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.9


def test_frozen_parameters_are_left_out() -> None:
    trained, frozen = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    groups = build_optimizer([trained, frozen], OptimizerConfig()).param_groups
    assert [id(parameter) for parameter in groups[0]["params"]] == [id(trained)]


@pytest.mark.parametrize("values", [{"name": "sgd", "epsilon": 1.0}, {"name": "adamw", "momentum": 0.9}])
def test_an_option_that_would_be_ignored_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="remove"):
        OptimizerConfig.model_validate(values)


def test_the_papers_schedule_divides_by_ten_after_epochs_2_4_and_5() -> None:
    schedule = ScheduleConfig(name="step", milestones=(2, 4, 5))
    rates = [learning_rate_at(schedule, 0.01, step=0, done=done, length=6) for done in (0, 1.99, 2, 4, 5.5)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])


def test_cosine_falls_from_the_base_to_nothing() -> None:
    schedule = ScheduleConfig(name="cosine")
    rates = [learning_rate_at(schedule, 2.0, step=0, done=done, length=100) for done in (0, 50, 100)]
    assert rates == pytest.approx([2.0, 1.0, 0.0])


def test_warmup_climbs_linearly_and_never_starts_at_nothing() -> None:
    schedule = ScheduleConfig(name="constant", warmup_steps=4)
    rates = [learning_rate_at(schedule, 1.0, step=step, done=step, length=10) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_milestones_belong_to_the_step_schedule_alone() -> None:
    with pytest.raises(ValidationError, match="milestones"):
        ScheduleConfig(name="cosine", milestones=(2,))
    with pytest.raises(ValidationError, match="milestones"):
        ScheduleConfig(name="step")
