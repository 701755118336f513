"""The configurations for the paper's networks and for clusters: their recipes, and the sizes that follow from them."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from octoscale.config import load_config
from octoscale.geometry import Geometry, possible_geometries

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PAPER = sorted((CONFIGS / "paper").glob("*.yaml"))
SCALE = sorted((CONFIGS / "scale").glob("*.yaml"))


@dataclass(frozen=True)
class Recipe:
    """What §4.2 of the paper says of one network."""

    network: str
    batch: int
    epochs: int
    optimizer: str
    learning_rate: float
    epsilon: float | None
    milestones: tuple[float, ...] | None


def adagrad(network: str, batch: int) -> Recipe:
    return Recipe(network, batch, 6, "adagrad", 0.01, 1.0, (2, 4, 5))


RECIPES = {
    "resnet50": adagrad("resnet50", 256),
    "mobilenetv2": adagrad("mobilenetv2", 256),
    "iresnet50": adagrad("iresnet50", 64),
    "magface": Recipe("iresnet50", 64, 1, "sgd", 0.001, None, None),
    "face_transformer_p8s8": Recipe("face_transformer_p8s8", 64, 1, "adamw", 0.0005, 1e-8, None),
    "face_transformer_p12s8": Recipe("face_transformer_p12s8", 64, 1, "adamw", 0.0005, 1e-8, None),
}
# The paper's seven sets beside LFW.
SETS = {"calfw", "cplfw", "sllfw", "cfp_ff", "cfp_fp", "agedb_30", "xqlfw"}


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_a_network_of_the_paper_is_fine_tuned_by_the_papers_recipe(path: Path) -> None:
    config = load_config(path)

    assert config.epochs is not None
    assert RECIPES[path.stem] == Recipe(
        config.model.name, config.global_batch_size, config.epochs, config.optimizer.name,
        config.optimizer.learning_rate, config.optimizer.epsilon, config.schedule.milestones,
    )  # fmt: skip
    assert (config.schedule.name == "step") == (config.optimizer.name == "adagrad")
    assert (config.loss.metric, config.loss.margin, config.loss.normalize) == ("euclidean", 25, False)
    assert config.loss.negatives == "hardest"
    assert config.degrade.resolutions == (7, 14, 28)
    assert min(config.augment.flip_probability, config.augment.brightness, config.augment.saturation) > 0
    assert config.evaluate is not None
    assert config.evaluate.protocol == "lfw"
    assert set(config.evaluate.benchmarks) == SETS


def test_every_network_of_the_paper_has_a_configuration() -> None:
    assert {path.stem for path in PAPER} == set(RECIPES)


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_a_run_of_the_paper_fits_one_process(path: Path) -> None:
    (geometry,) = possible_geometries(load_config(path))

    assert geometry.world_size == geometry.passes == 1
    # A built-in network: how much a commit holds is known without its weights.
    assert geometry.commit_bytes is not None


@pytest.mark.parametrize("path", SCALE, ids=lambda path: path.stem)
def test_the_batch_and_the_gpus_are_those_of_the_files_name(path: Path) -> None:
    named = re.fullmatch(r"b(\d+)_(\d+)gpu", path.stem)
    assert named is not None
    batch, gpus = map(int, named.groups())
    config = load_config(path)

    assert config.global_batch_size == batch
    assert config.resilience.world.maximum == gpus
    geometries = possible_geometries(config)
    assert geometries[-1] == Geometry.derive(config, gpus)
    for geometry in geometries:
        # Whole chunks of one size, in two passes.
        assert set(geometry.chunks) == {config.micro_batch_size}
        assert geometry.passes == 2


def test_the_batches_and_gpus_are_the_three_that_are_promised() -> None:
    assert {path.stem for path in SCALE} == {"b4096_1gpu", "b16384_8gpu", "b65536_64gpu"}
