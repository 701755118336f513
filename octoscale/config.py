"""The configuration of a run: a YAML file, overridden from the command line; unknown keys are errors."""

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from octoscale.augment import AugmentConfig
from octoscale.checkpoint import CheckpointConfig
from octoscale.data.config import DataConfig
from octoscale.data.importers.paths import store_and_name
from octoscale.data.storage_config import StorageConfig
from octoscale.degrade import DegradeConfig
from octoscale.distillation import DistillationConfig
from octoscale.distributed.deepspeed_config import zero_stage
from octoscale.distributed.engine import EngineName, Precision
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import EvaluateConfig
from octoscale.loss.config import LossConfig
from octoscale.models.config import ModelConfig
from octoscale.models.graph_file import is_graph_file
from octoscale.optimizer import OptimizerConfig, ScheduleConfig
from octoscale.resilience import ResilienceConfig
from octoscale.settings import Settings
from octoscale.step import StepConfig
from octoscale.telemetry.config import TelemetryConfig


class Config(Settings):
    """Everything a run depends on. Each block is documented beside the component that owns it."""

    directory: str = Field(description="where the run writes: any fsspec URL; one run per directory")
    seed: int = 0
    global_batch_size: int = Field(ge=4, multiple_of=2, description="high-resolution images per optimizer step")
    steps: int | None = Field(None, ge=1, description="length of the run in steps, or else in epochs")
    epochs: int | None = Field(None, ge=1)
    micro_batch_size: int | None = Field(None, ge=1, description="high-resolution images in the network at a time")
    precision: Precision = "fp32"
    engine: EngineName = "ddp"
    deepspeed: dict[str, Any] | None = Field(None, description="DeepSpeed's own settings, for engine=deepspeed")

    data: DataConfig
    storage: StorageConfig = StorageConfig()
    model: ModelConfig
    augment: AugmentConfig = AugmentConfig()
    degrade: DegradeConfig = DegradeConfig()
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    resilience: ResilienceConfig = ResilienceConfig()
    evaluate: EvaluateConfig | None = None
    telemetry: TelemetryConfig = TelemetryConfig()

    @model_validator(mode="after")
    def _one_length(self) -> "Config":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give the run's length as steps or as epochs, one of the two")
        return self

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "Config":
        if self.micro_batch_size is not None and self.micro_batch_size > self.global_batch_size:
            raise ValueError(
                f"micro_batch_size is {self.micro_batch_size}, more than global_batch_size, {self.global_batch_size}: "
                "leave it out, the whole batch is then one chunk"
            )
        length = self.steps or self.epochs or 0
        late = [milestone for milestone in self.schedule.milestones or () if milestone >= length]
        if late:
            raise ValueError(
                f"schedule.milestones has {', '.join(f'{milestone:g}' for milestone in late)}, and the run ends after "
                f"{length} {'epochs' if self.steps is None else 'steps'}, in which they are counted: leave them out"
            )
        if self.distillation is not None and self.model.weights is None and not is_graph_file(self.model.name):
            raise ValueError(
                "distillation ties the embeddings to those of the network before the run, and this one has random "
                "weights: set model.weights, or leave distillation out"
            )
        if self.deepspeed is not None and self.engine != "deepspeed":
            raise ValueError(f"the deepspeed block belongs to engine=deepspeed, and the engine is {self.engine}")
        if self.engine == "deepspeed" and self.precision == "fp16":
            raise ValueError("engine=deepspeed trains in fp32 or bf16, not fp16: set precision=bf16, or engine=ddp")
        if self.model.compile and self.engine == "deepspeed" and zero_stage(self.deepspeed or {}) == 3:
            raise ValueError(
                "model.compile works with ZeRO 0 to 2, and deepspeed.zero_optimization.stage is 3: weights are fetched "
                "between the layers, and the compiler stops at each; set model.compile to false, or the stage to 2"
            )
        return self

    @property
    def step(self) -> StepConfig:
        """The blocks that a training step reads."""
        return StepConfig(
            micro_batch_size=self.micro_batch_size, augment=self.augment, degrade=self.degrade, loss=self.loss,
            distillation=self.distillation,
        )  # fmt: skip

    def reached_by(self, storage: StorageConfig | None) -> "Config":
        """The same run; what `storage` sets wins over its own block."""
        return self if storage is None else self.model_copy(update={"storage": storage.over(self.storage)})

    def with_absolute_paths(self) -> "Config":
        """The same run from any working directory: every local path absolute."""
        values = self.model_dump()
        for key, path in self.local_paths().items():
            *blocks, last = key.split(".")
            block = values
            for name in blocks:
                block = block[name]
            block[last] = str(Path(path).expanduser().absolute())
        return Config.model_validate(values)

    def local_paths(self) -> dict[str, str]:
        """The settings that are paths of a file system, not URLs, by their keys."""
        evaluate = self.evaluate
        places = {
            "directory": self.directory,
            "data.url": self.data.url,
            "data.cache_dir": self.data.cache_dir,
            "model.name": self.model.name if is_graph_file(self.model.name) else None,
            "model.weights": self.model.weights,
            "checkpoint.url": self.checkpoint.url,
            "telemetry.folder": self.telemetry.folder,
            "evaluate.pairs": evaluate and evaluate.pairs,
            "evaluate.images": evaluate and evaluate.images,
        }
        for name, data in (evaluate.benchmarks if evaluate else {}).items():
            places[f"evaluate.benchmarks.{name}.pairs"] = data.pairs
            places[f"evaluate.benchmarks.{name}.images"] = data.images
        return {key: place for key, place in places.items() if isinstance(place, str) and "://" not in place}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a run's configuration.

    Args:
        path: a YAML file, a path or URL.
        overrides: ``key.sub=value``, the value in YAML; they win over the file. Those of ``storage`` are how a URL is
            reached, too.

    Raises:
        OctoscaleError: no such file, bad YAML, an unknown key (the nearest right one is named) or a value
            that does not fit.
    """
    if "://" in str(path):
        store, name = store_and_name(str(path), storage_of(overrides) or StorageConfig())
        return parse_yaml(store.read(name), source=str(path), overrides=overrides)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise OctoscaleError(f"cannot read the configuration {path}: {error.strerror}") from error
    return parse_yaml(content, source=str(path), overrides=overrides)


def parse_yaml(content: bytes, *, source: str, overrides: Sequence[str] = ()) -> Config:
    """As `parse_config`, of the content of a file."""
    try:
        values = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise OctoscaleError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise OctoscaleError(f"{source} must hold a mapping of keys, not {type(values).__name__}")
    return parse_config(values, source=source, overrides=overrides)


def parse_config(values: dict[str, Any], *, source: str, overrides: Sequence[str] = ()) -> Config:
    """Validate a configuration given as nested dictionaries, changed by `overrides`; `source` names it in errors."""
    for override in overrides:
        _apply(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {line}" for line in _explain(error))
        raise OctoscaleError(f"the configuration {source} does not fit:\n{problems}") from error


def storage_of(overrides: Sequence[str]) -> StorageConfig | None:
    """The `storage` block that overrides alone make; None where they say nothing of it.

    Raises:
        OctoscaleError: one of its values does not fit.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        if override.partition("=")[0].partition(".")[0] == "storage":
            _apply(values, override)
    try:
        return _StorageAlone.model_validate(values).storage
    except ValidationError as error:
        raise OctoscaleError(f"{'; '.join(_explain(error))}") from error


class _StorageAlone(Settings):
    storage: StorageConfig | None = None


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise OctoscaleError(f"an override is key.sub=value, not {override!r}")
    *parents, last = key.split(".")
    for parent in parents:
        child = values.get(parent)
        if child is None:
            child = values[parent] = {}
        if not isinstance(child, dict):
            raise OctoscaleError(f"override {override!r}: {parent} is a value, not a block")
        values = child
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OctoscaleError(f"override {override!r}: the value is not valid YAML") from error


def _explain(error: ValidationError) -> Iterator[str]:
    known = sorted(_keys(Config))
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = _nearest(key, known)
            yield f"unknown key {key}" + (f"; did you mean {near}?" if near else "")
        elif problem["type"] == "missing":
            yield f"{key} is missing"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            # "secret": the value holds a password.
            shown = problem["type"] != "secret" and not isinstance(problem["input"], dict | BaseModel)
            given = f", not {problem['input']!r}" if shown else ""
            yield f"{key}: {message}{given}" if key else message


def _nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key most like this one, whole or by its last part."""
    last = key.rsplit(".", 1)[-1]
    scored = [(max(_likeness(key, other), _likeness(last, other.rsplit(".", 1)[-1]) - 0.05), other) for other in known]
    score, nearest = max(scored)
    return nearest if score > 0.6 else None


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for block in _blocks(field.annotation):
            yield from _keys(block, f"{prefix}{name}.")


def _blocks(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (types.UnionType, typing.Union):
        for argument in get_args(annotation):
            yield from _blocks(argument)
