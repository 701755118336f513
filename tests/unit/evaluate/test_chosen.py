"""Which data sets a command evaluates."""

import pytest

from octoscale.errors import OctoscaleError
from octoscale.evaluate.chosen import chosen
from octoscale.evaluate.config import DataSet, EvaluateConfig, GalleryConfig, GallerySet, TemplateConfig, TemplateSet

CONFIGURED = EvaluateConfig(
    pairs="pairs.txt",
    images="faces",
    resolutions=(7,),
    benchmarks={
        "agedb": DataSet(protocol="bin", pairs="a.bin"),
        "calfw": DataSet(protocol="calfw", pairs="c", images="d"),
        "ijbc": TemplateSet(protocol="ijbc", pairs="meta", images="crops", resolutions=(14,)),
        "tiny": GallerySet(protocol="tinyface", pairs="lists", images="crops"),
    },
)
ALL = ["agedb", "calfw", "ijbc", "tiny"]


def test_by_default_it_is_the_configured_one() -> None:
    assert chosen(CONFIGURED, "run") == {"lfw": CONFIGURED}


def test_benchmarks_are_named_or_all() -> None:
    named = chosen(CONFIGURED, "run", benchmarks=["calfw"])
    assert list(named) == ["calfw"]
    assert (named["calfw"].protocol, named["calfw"].resolutions) == ("calfw", (7,))
    every = chosen(CONFIGURED, "run", benchmarks=["all"], flip=True)
    assert list(every) == ALL
    assert all(settings.flip for settings in every.values())
    assert [settings.resolutions for settings in every.values()] == [(7,), (7,), (14,), ()]


def test_resolutions_replace_those_of_any_set() -> None:
    every = chosen(CONFIGURED, "run", benchmarks=["all"], resolutions=[28, 14, 28])
    assert {settings.resolutions for settings in every.values()} == {(14, 28)}


def test_alignment_is_for_templates() -> None:
    (ijbc,) = chosen(CONFIGURED, "run", benchmarks=["ijbc"], align=True).values()
    assert isinstance(ijbc, TemplateConfig)
    assert ijbc.align
    with pytest.raises(OctoscaleError, match="--align is for ijbb and ijbc, and agedb is bin; leave it out"):
        chosen(CONFIGURED, "run", benchmarks=["all"], align=True)
    with pytest.raises(OctoscaleError, match="and lfw is lfw"):
        chosen(CONFIGURED, "run", align=True)


def test_templates_and_galleries_may_be_given_by_hand() -> None:
    configured = CONFIGURED.model_copy(update={"flip": True, "batch_size": 3, "far": (0.5,), "bootstrap": 0})
    found = chosen(configured, "run", protocol="ijbb", pairs="meta", images="crops", align=True)
    expected = TemplateConfig(
        protocol="ijbb", pairs="meta", images="crops", align=True, flip=True, batch_size=3, far=(0.5,), bootstrap=0
    )
    assert found == {"ijbb": expected}

    found = chosen(None, "run", protocol="identification", pairs="roles.csv", images="crops", resolutions=[7])
    gallery = GalleryConfig(protocol="identification", pairs="roles.csv", images="crops", resolutions=(7,))
    assert found == {"identification": gallery}

    # The configured images are those of other pairs.
    with pytest.raises(OctoscaleError, match="--protocol ijbc takes --pairs, its file or folder, and --images"):
        chosen(CONFIGURED, "run", protocol="ijbc", pairs="meta")


def test_other_pairs_take_the_configured_settings() -> None:
    (other,) = chosen(CONFIGURED, "run", pairs="other.txt").values()
    assert (other.pairs, other.images, other.resolutions) == ("other.txt", "faces", (7,))

    (pack,) = chosen(CONFIGURED, "run", protocol="bin", pairs="lfw.bin").values()
    assert (pack.protocol, pack.images) == ("bin", None)

    # Whatever a benchmark of that name says.
    sizes = {"calfw": DataSet(protocol="calfw", pairs="c", images="d", resolutions=(14,))}
    sized = CONFIGURED.model_copy(update={"benchmarks": sizes})
    (calfw,) = chosen(sized, "run", protocol="calfw", pairs="other.txt", images="e").values()
    assert (calfw.pairs, calfw.resolutions) == ("other.txt", (7,))

    assert list(chosen(None, "run", protocol="cfp_fp", pairs="Protocol", images="crops")) == ["cfp_fp"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"benchmarks": ["lfw"]}, "run has no benchmark 'lfw', only agedb, calfw, ijbc, tiny"),
        ({"benchmarks": ["all", "typo"]}, "run has no benchmark 'typo', only agedb"),
        ({"benchmarks": ["agedb"], "pairs": "x"}, "leave out --pairs"),
        ({"protocol": "megaface"}, "--protocol megaface is not known; give one of lfw, .*tinyface"),
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
