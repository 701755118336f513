"""The network that a command is given: a run's, a configuration's, or one that is whole in a file."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from octoscale.config import Config, storage_of
from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig, is_local
from octoscale.errors import OctoscaleError
from octoscale.models import FaceNetwork, load, read_weights
from octoscale.models.graph_facts import graph_facts
from octoscale.models.graph_file import holds_graph
from octoscale.models.registry import is_library_network
from octoscale.trained import load_trained

# Of files that hold a network.
_SUFFIXES = (".onnx", ".pt", ".pt2", ".pth", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class Given:
    """A network, and where it comes from.

    Attributes:
        storage: how what belongs to it is reached.
        config, step, run: its configuration, its optimizer steps, and the run with its results; None: of a file.
    """

    network: FaceNetwork
    storage: StorageConfig
    config: Config | None = None
    step: int | None = None
    run: str | None = None


def given_network(
    target: str,
    overrides: Sequence[str] = (),
    *,
    best: bool = False,
    step: int | None = None,
    data: Collection[str] = (),
) -> Given:
    """The network that `target` names.

    Args:
        target: a run's directory or a configuration, as `load_trained` takes them; or a file, as `network_of_file`.
        overrides: ``key.sub=value``; with a file those of ``storage`` alone, where some of `data` is not local.
        best, step: of a run, which commit instead of the newest.
        data: paths or URLs of what the network is for.

    Raises:
        OctoscaleError: what these two raise; a setting that is of a run or a configuration, and a file.
    """
    if not _is_file(target):
        trained = load_trained(target, overrides, best=best, step=step)
        return Given(trained.network, trained.storage, trained.config, trained.step, trained.run)
    storage = () if all(map(is_local, data)) else ("storage.", "storage=")
    others = [override for override in overrides if not override.startswith(storage)]
    others += ["--best"] * best + ([] if step is None else [f"--step {step}"])
    if others:
        raise OctoscaleError(f"{others[0]} is of a run or a configuration, and {target} is a file; leave it out")
    return Given(network_of_file(Path(target)), storage_of(overrides) or DEFAULT)


def _is_file(target: str) -> bool:
    path = Path(target).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_dir():
        return False
    # One that is not there is told to be missing, not to be a run without commits.
    return path.is_file() or (path.suffix in _SUFFIXES and is_local(target))


def network_of_file(path: Path) -> FaceNetwork:
    """The network that a file holds, without settings: one of octoscale's export, or weights that tell their network.

    Raises:
        OctoscaleError: no such file; it does not say which network it is or how its images are prepared; or one of
            your own, which is code.
    """
    path = path.expanduser()
    if holds_graph(path):
        if path.is_file() and graph_facts(path).card is None:
            raise OctoscaleError(
                f"{path} does not say how its images are prepared: octoscale did not write it; give a configuration "
                f"(.yaml) with model.name={path}"
            )
        return load(str(path))
    weights = read_weights(path)
    if weights.candidates:
        raise OctoscaleError(
            f"{path} could be of {' or '.join(weights.candidates)}, which write the same keys; give a configuration "
            f"(.yaml) with model.name, model.weights={path} and model.dialect"
        )
    if weights.network is None or not is_library_network(weights.network):
        raise OctoscaleError(
            f"{path} does not say which network of octoscale's its weights are of; give a configuration (.yaml) with "
            f"model.name and model.weights={path}"
        )
    return load(weights.network, weights=path, embedding_dim=weights.embedding_dim)
