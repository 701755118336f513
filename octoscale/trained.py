"""The network that a configuration starts from, or that a run has made so far."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from octoscale.checkpoint import CheckpointConfig, Checkpoints, DamagedError, best_of
from octoscale.config import Config, load_config, parse_config, parse_yaml, storage_of
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.models import FaceNetwork, load, read_weights
from octoscale.models.network import PreprocessingConfig


@dataclass(frozen=True)
class Trained:
    """A network, the configuration it belongs to, the optimizer steps behind it, and the run with its results."""

    network: FaceNetwork
    config: Config
    step: int
    run: str  # a directory, a local path or URL
    storage: StorageConfig  # how `run` is reached


def load_trained(
    target: str,
    overrides: Sequence[str] = (),
    *,
    best: bool = False,
    step: int | None = None,
    storage: StorageConfig | None = None,
) -> Trained:
    """Load a network from a configuration file, a run's directory, or a checkpoint URL.

    Args:
        target: a ``.yaml`` file (the network before training), or a run's directory or its commits; paths or URLs.
        overrides: ``key.sub=value``, as `load_config` takes them. Those of ``storage`` are how a run is reached too.
        best: of a run, the commit with the best evaluation instead of the newest.
        step: of a run, the commit of this step.
        storage: how a run, and what its configuration names, is reached; wins over what that and `overrides` say.

    Raises:
        OctoscaleError: neither of these, no commit, or a damaged one; another model for a run's network; `best` and
            `step` together, or of a configuration.
    """
    if best and step is not None:
        raise OctoscaleError("--step and --best name two commits; give one of them")
    if target.endswith((".yaml", ".yml")):
        if best or step is not None:
            given = "--best" if best else f"--step {step}"
            raise OctoscaleError(
                f"{given} is of a run's commits, and {target} is a configuration; give a run's directory, or leave it "
                "out"
            )
        config = load_config(target, overrides)
        network = configured_network(config, config.model.weights)
        return Trained(network, config, 0, config.directory, config.storage)
    if Path(target).is_file():
        raise OctoscaleError(
            f"{target} is a file; give a run's directory, or a configuration (.yaml) for a weights file"
        )
    for override in overrides:
        if override.partition("=")[0].partition(".")[0] == "model":
            raise OctoscaleError(
                f"{override!r} would change the network that the run {target} has trained; leave it out"
            )
    reached = storage or storage_of(overrides)
    for checkpoints in places_with_commits(target, reached):
        url = checkpoints.store.url
        commits = [commit for commit in checkpoints.commits() if step in (None, commit.step)]
        commit = best_of(commits) if best else (commits[-1] if commits else None)
        if commit is None:
            continue
        try:
            config = parse_config(checkpoints.record(commit)["config"], source=f"in {url}", overrides=overrides)
            config = config.reached_by(storage)
            network = configured_network(config, None)
            checkpoints.load({"model": network.state_dict()}, commit)
        except DamagedError as error:
            raise OctoscaleError(
                f"the checkpoint of step {commit.step} in {url} is damaged ({error}); train on: that puts it aside "
                "and falls back to the one before it"
            ) from error
        return Trained(network, config, commit.step, target, reached or StorageConfig())
    wanted = f"{'evaluated ' if best else ''}checkpoint{'' if step is None else f' of step {step}'}"
    raise OctoscaleError(
        f"{target} holds no {wanted}; give a run's directory, its checkpoints, or a configuration (.yaml)"
    )


def places_with_commits(target: str, storage: StorageConfig | None = None) -> Iterator[Checkpoints]:
    """The checkpoints, to be read, of a run's directory or of a URL that holds commits.

    Args:
        storage: how they are reached; what it leaves open: by the defaults, and where the run's configuration names
            a place of its commits, as that says.
    """
    for url, reached in _places(target, storage):
        # Only read, so what the configuration says about keeping does not matter.
        checkpoints = Checkpoints(url, World(), CheckpointConfig(), reached)
        if checkpoints.store.exists():
            found = checkpoints.listing()
            if found.commits or found.fenced or found.senseless:
                yield checkpoints


def _places(target: str, storage: StorageConfig | None) -> Iterator[tuple[str, StorageConfig | None]]:
    """Where a run's commits may be: here, in its directory, or where its configuration put them."""
    yield target, storage
    yield f"{target.rstrip('/')}/checkpoints", storage
    store = Store(target, storage or StorageConfig())
    if store.exists("config.yaml"):
        config = parse_yaml(store.read("config.yaml"), source=f"{target.rstrip('/')}/config.yaml")
        if config.checkpoint.url is not None:
            yield config.checkpoint.url, config.reached_by(storage).storage


def configured_network(config: Config, weights: str | None) -> FaceNetwork:
    """The network that `config` names, with these weights; random ones are a function of the seed."""
    model = config.model
    # Random weights, where there are no others, are those that the run starts from.
    torch.manual_seed(config.seed)
    return load(
        model.name, weights=weights, dialect=model.dialect, embedding_dim=model.embedding_dim,
        preprocessing=model.preprocessing, batch_norm_epsilon=model.batch_norm_epsilon,
    )  # fmt: skip


def with_what_weights_say(config: Config) -> Config:
    """The same run with its weights' dialect, preprocessing and epsilon written out, where it leaves them open.

    What a run commits is its network's weights in octoscale's own names; its configuration keeps the rest.
    """
    model = config.model
    left_open: dict[str, Any] = {}
    prepared = None
    if model.weights is not None:
        read = read_weights(model.weights, model.dialect)
        prepared = read.preprocessing
        found = {"dialect": read.dialect, "batch_norm_epsilon": read.batch_norm_epsilon}
        left_open = {key: value for key, value in found.items() if value is not None and getattr(model, key) is None}
    if model.preprocessing is not None and not model.preprocessing.is_complete:
        prepared = configured_network(config, model.weights).preprocessing
    if prepared is not None and (model.preprocessing is None or not model.preprocessing.is_complete):
        left_open["preprocessing"] = PreprocessingConfig(**asdict(prepared))
    return config.model_copy(update={"model": model.model_copy(update=left_open)})
