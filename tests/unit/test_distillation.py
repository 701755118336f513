"""Ties to the network before the run: the distances, the step that lowers them, and what a run makes of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from octoscale.augment import augment
from octoscale.build import build_engine, build_network, build_teacher
from octoscale.config import Config, load_config, parse_config
from octoscale.data.loader import Batch
from octoscale.data.storage import Store
from octoscale.degrade import degrade
from octoscale.distillation import DistillationConfig, Teacher, distill
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.journal import read_journal
from octoscale.loss import octuplet_loss
from octoscale.models import load, save_weights
from octoscale.step import StepResult, draw_resolutions, training_step
from octoscale.train import train
from tests.conftest import SmallRun


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of the network before the run."""
    torch.manual_seed(1)
    save_weights(load("tiny", embedding_dim=16), tmp_path / "before.pt")
    return tmp_path / "before.pt"


def config_of(small_run: SmallRun, weights: Path, **changes: Any) -> Config:
    values = small_run(
        "run", global_batch_size=8, optimizer={"name": "sgd", "momentum": 0}, model={"weights": str(weights)}, **changes
    )
    return parse_config(values, source="of the test")


def shifted(config: Config) -> Any:
    """The configured network after some training: not its own teacher."""
    network = build_network(config, World())
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * parameter.std(unbiased=False) * torch.randn_like(parameter)
    return network


def one_step(config: Config, batch: Batch) -> tuple[StepResult, list[Tensor]]:
    network = shifted(config)
    result = training_step(
        batch, build_engine(config, network, World()), config.step, World(), seed=7, epoch=2, learning_rate=0.1,
        teacher=build_teacher(config, World()),
    )  # fmt: skip
    return result, [parameter.detach() for parameter in network.parameters()]


def smooth_distance(x: Tensor, y: Tensor) -> Tensor:
    """Like the Euclidean distance far away, like its square within 1 % of the target's norm."""
    noise = 0.01 * y.norm()
    return torch.sqrt(((x - y) ** 2).sum() + noise**2) - noise


def plain_distance(metric: str, a: Tensor, b: Tensor) -> Tensor:
    """One image after the other."""
    found = {
        "cosine": lambda x, y: 1 - F.cosine_similarity(x, y, dim=0),
        "euclidean": smooth_distance,
        "euclidean_squared": lambda x, y: ((x - y) ** 2).sum(),
    }[metric]
    return torch.stack([found(x, y) for x, y in zip(a, b, strict=True)]).mean()


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "euclidean_squared"])
@pytest.mark.parametrize(("high", "low"), [(1.0, 0.0), (0.0, 2.0), (0.5, 3.0)])
def test_it_is_the_weighted_mean_distance(metric: Any, high: float, low: float) -> None:
    generator = torch.Generator().manual_seed(3)
    embeddings = (5 * torch.randn(2, 6, 4, generator=generator)).requires_grad_()
    targets = 5 * torch.randn(6, 4, generator=generator)
    expected = high * plain_distance(metric, embeddings[0], targets) + low * plain_distance(
        metric, embeddings[1], targets
    )
    (slope,) = torch.autograd.grad(expected, embeddings)

    found = distill(embeddings, targets, DistillationConfig(metric=metric, high=high, low=low))
    (gradient,) = torch.autograd.grad(found, embeddings)

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, slope)


def test_rounding_noise_gets_no_gradient_as_long_as_a_difference() -> None:
    """Student and teacher embed in batches of other sizes, and so to other last bits."""
    targets = torch.randn(64, 16, generator=torch.Generator().manual_seed(4))
    slopes = {}
    for name, near in (("noise", 1e-6), ("difference", 1.0)):
        offset = near * torch.randn(64, 16, generator=torch.Generator().manual_seed(5))
        embeddings = (targets + offset).expand(2, -1, -1).clone().requires_grad_()
        found = distill(embeddings, targets, DistillationConfig(metric="euclidean", high=1.0))
        slopes[name] = torch.autograd.grad(found, embeddings)[0].norm()

    assert slopes["noise"] < 1e-3 * slopes["difference"]


def test_at_its_target_it_is_flat() -> None:
    embeddings = torch.ones(2, 3, 4).requires_grad_()

    found = distill(embeddings, torch.ones(3, 4), DistillationConfig(metric="euclidean", high=1.0, low=1.0))
    (gradient,) = torch.autograd.grad(found, embeddings)

    assert found.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_a_step_lowers_the_octuplet_loss_and_the_distillation_together(
    small_run: SmallRun, weights: Path, batch: Batch, micro_batch_size: int | None
) -> None:
    changes: dict[str, Any] = {"augment": {"flip_probability": 0.5, "brightness": 0.3}}
    config = config_of(
        small_run, weights, distillation={"high": 0.5, "low": 2.0}, micro_batch_size=micro_batch_size, **changes
    )
    result, parameters = one_step(config, batch)

    network = shifted(config)
    draws: dict[str, Any] = {"seed": 7, "epoch": 2, "sample_ids": batch.sample_ids.numpy()}
    high = augment(batch.high, config.augment, **draws)
    low = degrade(high, draw_resolutions((7, 14), **draws))
    before = load("tiny", weights=str(weights), embedding_dim=16).eval()
    targets = before(high).detach()
    embeddings = network(high), network(low)
    taught = 0.5 * plain_distance("cosine", embeddings[0], targets)
    taught = taught + 2.0 * plain_distance("cosine", embeddings[1], targets)
    (octuplet_loss(*embeddings, batch.identities, margin=1.0) + taught).backward()

    assert result.distillation == pytest.approx(taught.item(), rel=1e-4)
    assert result.loss == pytest.approx(sum(term.loss for term in result.terms.values()) + taught.item(), rel=1e-4)
    for start, after in zip(network.parameters(), parameters, strict=True):
        assert start.grad is not None
        torch.testing.assert_close(after, start.detach() - 0.1 * start.grad, rtol=1e-4, atol=1e-5)


def test_without_it_a_step_has_no_share_of_it(small_run: SmallRun, weights: Path, batch: Batch) -> None:
    assert one_step(config_of(small_run, weights), batch)[0].distillation is None


def test_the_teacher_is_not_trained(small_run: SmallRun, weights: Path, batch: Batch) -> None:
    values = small_run("run", global_batch_size=8, model={"weights": str(weights), "batch_norm": "chunk"})
    config = parse_config({**values, "distillation": {"low": 1.0}}, source="of the test")
    teacher = build_teacher(config, World())
    assert isinstance(teacher, Teacher)
    first = teacher.embed(batch.high)
    network = build_network(config, World())
    engine = build_engine(config, network, World())
    settings: dict[str, Any] = {"seed": 7, "epoch": 0, "learning_rate": 0.1}

    training_step(batch, engine, config.step, World(), **settings, teacher=teacher)

    with torch.no_grad():
        assert not torch.equal(network.eval()(batch.high), first)
    assert torch.equal(teacher.embed(batch.high), first)
    assert not first.requires_grad


def test_a_resumed_run_has_the_same_teacher(small_run: SmallRun, weights: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"model": {"weights": str(weights)}, "distillation": {"high": 1.0, "low": 1.0}}
    for directory, lengths in (("whole", (4,)), ("resumed", (2, 4))):
        for steps in lengths:
            values = small_run(tmp_path / directory, steps=steps, **changes)
            train(parse_config(values, source="of the test"), World(), quiet=True)

    whole, resumed = (read_journal(Store(str(tmp_path / name))) for name in ("whole", "resumed"))
    assert [line.result for line in whole] == [line.result for line in resumed]
    assert all((line.result.distillation or 0) > 0 for line in whole)


def test_a_run_does_not_go_on_with_another_teacher(
    small_run: SmallRun, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(weights.parent))

    def run(steps: int) -> None:
        values = small_run(
            tmp_path / "run", steps=steps, model={"weights": f"~/{weights.name}"}, distillation={"high": 1.0}
        )
        train(parse_config(values, source="of the test"), World(), quiet=True)

    run(2)
    torch.manual_seed(3)
    save_weights(load("tiny", embedding_dim=16), weights)

    with pytest.raises(OctoscaleError, match=r"teacher \(SHA-256\) was \w{64}, is \w{64}"):
        run(4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distillation.high=0"], "distillation needs a weight: set distillation.high or distillation.low"),
        (["distillation.low=-1"], "distillation.low: .*-1"),
        (["distillation.weight=1"], "unknown key distillation.weight"),
        (["distillation.low=1", "model.weights=null"], "this one has random weights: set model.weights"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    small_run: SmallRun, weights: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(config_of(small_run, weights).to_yaml())

    with pytest.raises(OctoscaleError, match=message):
        load_config(file, overrides)
