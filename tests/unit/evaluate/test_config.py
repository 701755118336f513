"""The settings of an evaluation."""

from typing import Any

import pytest
from pydantic import ValidationError

from octoscale.evaluate.config import EvaluateConfig


def test_the_defaults_are_the_five_resolutions_in_both_modes() -> None:
    config = EvaluateConfig(pairs="pairs.txt", images="faces")

    assert config.resolutions == (7, 14, 28, 56, 112)
    assert config.modes == ("cross", "same")
    assert config.every_steps is None


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
    ],
)
def test_a_bad_value_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=key):
        EvaluateConfig(pairs="pairs.txt", images="faces", **{key: value})
