"""The settings of an evaluation."""

from typing import Any

import pytest
from pydantic import ValidationError

from octoscale.evaluate.config import DataSet, EvaluateConfig


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
