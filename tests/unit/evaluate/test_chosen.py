"""Which data sets a command evaluates."""

import pytest

from octoscale.errors import OctoscaleError
from octoscale.evaluate.chosen import chosen
from octoscale.evaluate.config import DataSet, EvaluateConfig

CONFIGURED = EvaluateConfig(
    pairs="pairs.txt",
    images="faces",
    resolutions=(7,),
    benchmarks={
        "agedb": DataSet(protocol="bin", pairs="a.bin"),
        "calfw": DataSet(protocol="calfw", pairs="c", images="d"),
    },
)


def test_by_default_it_is_the_configured_one() -> None:
    assert chosen(CONFIGURED, "run") == {"lfw": CONFIGURED}


def test_benchmarks_are_named_or_all() -> None:
    named = chosen(CONFIGURED, "run", benchmarks=["calfw"])
    assert list(named) == ["calfw"]
    assert (named["calfw"].protocol, named["calfw"].resolutions) == ("calfw", (7,))
    assert list(chosen(CONFIGURED, "run", benchmarks=["all"], flip=True)) == ["agedb", "calfw"]
    assert chosen(CONFIGURED, "run", benchmarks=["all"], flip=True)["agedb"].flip


def test_other_pairs_take_the_configured_settings() -> None:
    (other,) = chosen(CONFIGURED, "run", pairs="other.txt").values()
    assert (other.pairs, other.images, other.resolutions) == ("other.txt", "faces", (7,))

    (pack,) = chosen(CONFIGURED, "run", protocol="bin", pairs="lfw.bin").values()
    assert (pack.protocol, pack.images) == ("bin", None)

    assert list(chosen(None, "run", protocol="cfp_fp", pairs="Protocol", images="crops")) == ["cfp_fp"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"benchmarks": ["lfw"]}, "run has no benchmark 'lfw', only agedb, calfw"),
        ({"benchmarks": ["agedb"], "pairs": "x"}, "leave out --pairs"),
        ({"protocol": "megaface"}, "cannot be evaluated: protocol: Input should be 'lfw'"),
    ],
)
def test_what_cannot_be_chosen_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        chosen(CONFIGURED, "run", **arguments)  # type: ignore[arg-type]


def test_without_a_configuration_pairs_must_be_given() -> None:
    with pytest.raises(OctoscaleError, match="run configures no evaluation; give --pairs and --images"):
        chosen(None, "run")
    with pytest.raises(OctoscaleError, match="images is missing"):
        chosen(None, "run", pairs="pairs.txt")
    with pytest.raises(OctoscaleError, match="no benchmark 'all', only none"):
        chosen(None, "run", benchmarks=["all"])
