"""Configuration: file, overrides, errors that help, and the golden form of every shipped file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from octoscale.config import Config, load_config, parse_config, storage_of
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from tests.conftest import SmallRun

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
GOLDEN = Path(__file__).parent / "golden"

SMALL = {
    "directory": "runs/x",
    "global_batch_size": 8,
    "steps": 3,
    "data": {"url": "data"},
    "model": {"name": "tiny"},
    "loss": {"margin": 1.0},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(SMALL))
    return file


def test_overrides_win_over_the_file_and_the_file_over_defaults(path: Path) -> None:
    config = load_config(path, ["loss.margin=0.5", "optimizer.learning_rate=1e-3", "evaluate=null"])
    assert config.loss.margin == 0.5
    assert config.optimizer.learning_rate == 1e-3
    assert config.global_batch_size == 8
    assert config.loss.metric == "euclidean"


def test_an_override_may_start_a_block(path: Path) -> None:
    config = load_config(path, ["evaluate.pairs=p.txt", "evaluate.images=faces", "evaluate.resolutions=[7, 112]"])
    assert config.evaluate is not None
    assert config.evaluate.resolutions == (7, 112)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.margn=1", "unknown key loss.margn; did you mean loss.margin?"),
        ("learning_rate=1", "unknown key learning_rate; did you mean optimizer.learning_rate?"),
        ("optimiser.name=sgd", "unknown key optimiser; did you mean optimizer?"),
        ("xyzzy=1", "unknown key xyzzy"),
        ("loss.margin=wide", "loss.margin: .*'wide'"),
        ("global_batch_size=7", "global_batch_size: .*7"),
        ("loss.metric=manhattan", "loss.metric: .*'manhattan'"),
        ("epochs=2", "steps or as epochs"),
        ("loss.margin", "key.sub=value"),
        ("steps.more=1", "steps is a value, not a block"),
        ("data=null", "data: "),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(path: Path, override: str, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        load_config(path, [override])


def test_all_problems_are_told_at_once(path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"(?s)margn.*batchsize|batchsize.*margn"):
        load_config(path, ["loss.margn=1", "batchsize=4"])


def test_a_missing_file_and_broken_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"cannot read .*absent\.yaml: No such file"):
        load_config(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(OctoscaleError, match="not valid YAML"):
        load_config(broken)
    broken.write_text("- 1")
    with pytest.raises(OctoscaleError, match="must hold a mapping"):
        load_config(broken)


def test_a_file_on_object_storage_is_read_as_a_local_one_is(path: Path) -> None:
    Store("memory://configs").write("run.yaml", path.read_bytes())
    assert load_config("memory://configs/run.yaml", ["storage.connections=2"]) == load_config(
        path, ["storage.connections=2"]
    )
    with pytest.raises(OctoscaleError, match=r"absent\.yaml"):
        load_config("memory://configs/absent.yaml")


def test_the_resolved_form_loads_to_the_same_configuration(path: Path, tmp_path: Path) -> None:
    overrides = ["evaluate.pairs=p", "evaluate.images=i", "schedule.name=step", "schedule.milestones=[2]"]
    config = load_config(path, overrides)
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml())
    assert load_config(again) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.metric=cosine", "loss.normalize=true"], "loss: the cosine distance .* leave loss.normalize out"),
        (
            ["steps=null", "epochs=4", "schedule.name=step", "schedule.milestones=[2, 4, 5]"],
            "schedule.milestones has 4, 5, and the run ends after 4 epochs",
        ),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        load_config(path, overrides)


def test_absolute_paths_leave_urls_alone(path: Path) -> None:
    config = load_config(path, ["data.url=s3://bucket/faces", "model.weights=w.pt"]).with_absolute_paths()
    assert config.data.url == "s3://bucket/faces"
    assert config.model.weights == str(Path("w.pt").absolute())
    assert config.directory == str(Path("runs/x").absolute())


def test_further_data_sets_of_every_kind_have_their_places(path: Path) -> None:
    benchmarks = "{ijbc: {protocol: ijbc, pairs: meta, images: s3://bucket/crops}, pack: {protocol: bin, pairs: a.bin}}"
    overrides = ["evaluate.pairs=p", "evaluate.images=i", f"evaluate.benchmarks={benchmarks}"]

    config = load_config(path, overrides)

    places = {key: place for key, place in config.local_paths().items() if "benchmarks" in key}
    assert places == {"evaluate.benchmarks.ijbc.pairs": "meta", "evaluate.benchmarks.pack.pairs": "a.bin"}
    absolute = config.with_absolute_paths().evaluate
    assert absolute is not None
    assert absolute.benchmarks["ijbc"].pairs == str(Path("meta").absolute())
    for change, message in (
        ("ijbc.images=null", "evaluate.benchmarks.ijbc.images: Input should be a valid string"),
        ("pack.align=true", "evaluate.benchmarks.pack: align is for ijbb and ijbc, not for bin"),
        ("pack.protocol=megaface", "evaluate.benchmarks.pack: protocol is 'megaface', and must be one of lfw, "),
        ("other=pairs.txt", "evaluate.benchmarks.other: a data set is a block with protocol, pairs and images, not"),
    ):
        with pytest.raises(OctoscaleError, match=message):
            load_config(path, [*overrides, f"evaluate.benchmarks.{change}"])


def name_of(shipped: Path) -> str:
    return shipped.relative_to(CONFIGS).as_posix()


@pytest.mark.parametrize("shipped", sorted(CONFIGS.rglob("*.yaml")), ids=name_of)
def test_a_shipped_configuration_resolves_to_its_golden_form(shipped: Path) -> None:
    golden = GOLDEN / shipped.relative_to(CONFIGS)
    # To accept a wanted change: octoscale config show configs/NAME.yaml > tests/unit/golden/NAME.yaml
    assert load_config(shipped).to_yaml() == golden.read_text()


def test_every_shipped_configuration_begins_with_its_command() -> None:
    for shipped in sorted(CONFIGS.rglob("*.yaml")):
        head = shipped.read_text().splitlines()[:12]
        assert any(line.startswith("#") and "octoscale " in line for line in head), shipped


def test_every_setting_is_documented_with_its_default() -> None:
    text = (CONFIGS.parent / "docs" / "configuration.md").read_text()
    documented = dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]*) \|", text, flags=re.MULTILINE))
    assert documented == dict(settings_of(Config))


def settings_of(block: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each setting's key, and its default as the documentation writes it."""
    for name, field in block.model_fields.items():
        nested = list(blocks_in(field.annotation))
        if nested:
            # Of blocks of several kinds the first one's defaults count.
            yield from {
                key: default for kind in reversed(nested) for key, default in settings_of(kind, f"{prefix}{name}.")
            }.items()
        elif field.is_required():
            yield prefix + name, "required"
        else:
            yield prefix + name, written(field.default)


def written(default: object) -> str:
    if isinstance(default, bool) or default is None:
        return {None: "none", True: "true", False: "false"}[default]
    return "[" + ", ".join(map(str, default)) + "]" if isinstance(default, tuple) else str(default)


def blocks_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Those of ``Block``, ``Block | None`` and ``dict[str, Block | Block]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from blocks_in(argument)


def test_a_password_in_the_endpoint_is_refused_and_not_shown(small_run: SmallRun, tmp_path: Path) -> None:
    values = small_run(tmp_path, storage={"endpoint_url": "https://me:hunter2@store.example"})

    with pytest.raises(OctoscaleError, match=r"storage.endpoint_url: holds a user or a password") as caught:
        parse_config(values, source="of the test")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"window_fraction": 0.2}, "window_fraction applies to mode=windowed"),
        ({"cache_bytes": "1GiB"}, "cache_bytes applies to mode=windowed"),
        ({"mode": "windowed", "window_fraction": 1.5}, "less than or equal to 1"),
    ],
)
def test_settings_of_the_window_are_for_windowed_mode(
    small_run: SmallRun, tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(OctoscaleError, match=message):
        parse_config(small_run(tmp_path, data=data), source="of the test")


def test_a_cache_is_given_in_any_unit(small_run: SmallRun, tmp_path: Path) -> None:
    config = parse_config(small_run(tmp_path, data={"mode": "windowed", "cache_bytes": "200GiB"}), source="of the test")

    assert config.data.cache_bytes == 200 * 2**30
    assert config.data.window == 0.1
    assert parse_config(config.model_dump(mode="json"), source="again") == config


def test_the_storage_of_overrides_alone() -> None:
    given = storage_of(["seed=3", "storage.endpoint_url=http://minio:9000", "storage.connections=3"])
    assert given == StorageConfig(endpoint_url="http://minio:9000", connections=3)
    assert storage_of(["storage=" + given.model_dump_json()]) == given
    assert storage_of(["seed=3"]) is None
    with pytest.raises(OctoscaleError, match=r"unknown key storage\.endpoint; did you mean storage\.endpoint_url"):
        storage_of(["storage.endpoint=http://minio:9000"])
    with pytest.raises(OctoscaleError) as refused:
        storage_of(["storage.endpoint_url=http://me:hidden@minio:9000"])
    assert "hidden" not in str(refused.value)
