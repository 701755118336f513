"""The settings of an evaluation."""

from typing import Any

import pytest
from pydantic import ValidationError

from octoscale.evaluate.config import DataSet, EvaluateConfig, GallerySet, TemplateSet


def test_the_defaults_are_the_five_resolutions_in_both_modes() -> None:
    config = EvaluateConfig(pairs="pairs.txt", images="faces")

    assert config.resolutions == (7, 14, 28, 56, 112)
    assert config.modes == ("cross", "same")
    assert config.every_steps is None
    assert config.protocol == "lfw"
    assert not config.flip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resolutions", []),
        ("resolutions", [14, 7]),
        ("resolutions", [7, 7]),
        ("resolutions", [0, 7]),
        ("modes", []),
        ("modes", ["cross", "cross"]),
        ("modes", ["both"]),
        ("far", []),
        ("far", [0.001, 0.1]),
        ("far", [0.0]),
        ("far", [1.0]),
        ("every_steps", 0),
        ("batch_size", 0),
        ("bootstrap", -1),
        ("protocol", "megaface"),
        ("benchmarks", {"a.b": {"pairs": "p", "images": "i"}}),
        ("benchmarks", {"lfw": {"pairs": "p"}}),
        ("benchmarks", {"lfw": "pairs.txt"}),
        ("benchmarks", {"ijbc": {"protocol": "ijbc", "pairs": "meta"}}),
    ],
)
def test_a_bad_value_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=key):
        EvaluateConfig(pairs="pairs.txt", images="faces", **{key: value})


def test_only_a_pack_holds_its_images() -> None:
    with pytest.raises(ValidationError, match=r"images is missing: the folder of the images that pairs\.txt names"):
        EvaluateConfig(pairs="pairs.txt")
    with pytest.raises(ValidationError, match="holds its images: leave images out, not faces"):
        EvaluateConfig(protocol="bin", pairs="lfw.bin", images="faces")
    assert EvaluateConfig(protocol="bin", pairs="lfw.bin").images is None


def test_another_data_set_is_evaluated_with_the_same_settings() -> None:
    pack = DataSet(protocol="bin", pairs="agedb_30.bin")
    config = EvaluateConfig(pairs="pairs.txt", images="faces", resolutions=(7,), benchmarks={"agedb": pack})

    other = config.on(config.benchmarks["agedb"])

    assert (other.protocol, other.pairs, other.images) == ("bin", "agedb_30.bin", None)
    assert other.resolutions == (7,)
    assert not other.benchmarks


def test_pairs_may_have_resolutions_of_their_own_and_a_name_of_their_own_then() -> None:
    sizes = DataSet(pairs="pairs.txt", images="faces", resolutions=(8, 12))
    own: dict[str, Any] = {"pairs": "pairs.txt", "images": "faces", "resolutions": (7,)}
    config = EvaluateConfig(**own, benchmarks={"lfw_sizes": sizes})

    assert config.on(config.benchmarks["lfw_sizes"]).resolutions == (8, 12)
    with pytest.raises(ValidationError, match=r"benchmarks\.lfw has resolutions of its own, .* such as lfw_sizes"):
        EvaluateConfig(**own, benchmarks={"lfw": sizes})


SETS: dict[str, Any] = {
    "calfw": {"protocol": "calfw", "pairs": "c", "images": "i"},
    "ijbc": {"protocol": "ijbc", "pairs": "meta", "images": "crops", "align": True},
    "tiny": {"protocol": "tinyface", "pairs": "Testing_Set", "images": "crops", "resolutions": [7, 112]},
    "mine": {"protocol": "identification", "pairs": "roles.csv", "images": "crops"},
}


def test_benchmarks_are_of_the_kind_that_their_protocol_says() -> None:
    config = EvaluateConfig(pairs="pairs.txt", images="faces", benchmarks=SETS)

    assert [type(data) for data in config.benchmarks.values()] == [DataSet, TemplateSet, GallerySet, GallerySet]
    assert list(config.pair_benchmarks) == ["calfw"]
    assert EvaluateConfig.model_validate(config.model_dump(mode="json")) == config


def test_templates_and_galleries_take_what_suits_them() -> None:
    config = EvaluateConfig(
        pairs="pairs.txt",
        images="faces",
        benchmarks=SETS,
        resolutions=(28,),
        flip=True,
        batch_size=4,
        bootstrap=50,
        far=(0.01,),
    )

    templates, gallery = (config.on(config.benchmarks[name]) for name in ("ijbc", "tiny"))

    shared = {"flip": True, "batch_size": 4, "bootstrap": 50}
    assert templates.model_dump() == {**SETS["ijbc"], "resolutions": (), **shared, "far": (0.01,)}
    assert gallery.model_dump() == {**SETS["tiny"], "resolutions": (7, 112), **shared}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("calfw", {"align": True}, "align is for ijbb and ijbc, not for calfw"),
        ("tiny", {"align": True}, "align is for ijbb and ijbc, not for tinyface"),
        ("calfw", {"resolutions": [14, 7]}, "resolutions must ascend"),
        ("tiny", {"resolutions": [7, 7]}, "resolutions must ascend"),
        ("tiny", {"protocol": "megaface"}, "protocol is 'megaface', and must be one of lfw, .*identification"),
        ("ijbc", {"far": [0.1]}, "far"),
    ],
)
def test_what_a_benchmark_would_ignore_is_refused(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=rf"(?s)benchmarks\.{name}.*{message}"):
        EvaluateConfig(pairs="pairs.txt", images="faces", benchmarks={name: SETS[name] | change})


def test_a_run_is_evaluated_on_pairs() -> None:
    with pytest.raises(ValidationError, match=r"on pairs, not on ijbc: name that set in evaluate\.benchmarks"):
        EvaluateConfig(protocol="ijbc", pairs="meta", images="crops")  # type: ignore[arg-type]
