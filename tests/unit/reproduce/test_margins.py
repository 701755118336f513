"""Which margin suits which metric."""

import pytest
import torch
import torch.nn.functional as F

from octoscale.errors import OctoscaleError
from octoscale.loss.config import LossConfig
from octoscale.loss.distance import distance_and_slope, project
from octoscale.reproduce.margins import VARIANTS, chosen_margins, parse_margins, variant_of


def test_defaults_are_those_of_the_documentation() -> None:
    assert chosen_margins(LossConfig(), {}) == {
        "euclidean": 25.0, "euclidean-normalized": 0.3, "euclidean_squared": 625.0,
        "euclidean_squared-normalized": 0.6, "cosine": 0.3,
    }  # fmt: skip


def test_the_configured_metric_keeps_its_margin_and_a_given_one_wins() -> None:
    cosine = LossConfig(metric="cosine", margin=0.2)
    assert chosen_margins(cosine, {})["cosine"] == 0.2
    assert chosen_margins(cosine, {"cosine": 0.1})["cosine"] == 0.1
    # The margin of the cosine distance says nothing about that of the Euclidean one.
    assert chosen_margins(cosine, {})["euclidean"] == 25.0


def test_the_margin_of_the_square_follows_the_euclidean_one() -> None:
    assert chosen_margins(LossConfig(margin=10.0), {})["euclidean_squared"] == 100.0
    assert chosen_margins(LossConfig(), {"euclidean": 5.0})["euclidean_squared"] == 25.0


def test_on_unit_vectors_the_squared_distance_is_twice_the_cosine_distance() -> None:
    """What the default 0.6 beside 0.3 stands on."""
    first, second = F.normalize(
        torch.randn(2, 50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=2
    )
    distances = {}
    for metric in ("cosine", "euclidean_squared"):
        a, b = (project(each, metric=metric, normalize=True) for each in (first, second))  # type: ignore[arg-type]
        distances[metric] = distance_and_slope(a - b, metric=metric)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(distances["euclidean_squared"], 2 * distances["cosine"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_known_by_its_settings(variant: str) -> None:
    metric, normalize = VARIANTS[variant]
    assert variant_of(LossConfig(metric=metric, normalize=normalize)) == variant


def test_margins_are_read() -> None:
    assert parse_margins(["cosine=0.3", "euclidean_squared-normalized=1"]) == {
        "cosine": 0.3, "euclidean_squared-normalized": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["0.3", "cosin=0.3", "cosine", "cosine=x", "cosine=-1", "cosine=nan", "cosine=inf"])
def test_what_is_no_margin_is_refused(text: str) -> None:
    with pytest.raises(OctoscaleError, match="--margin") as refused:
        parse_margins([text])
    assert text in str(refused.value)


def test_a_metric_twice_is_refused() -> None:
    with pytest.raises(OctoscaleError, match="each metric once"):
        parse_margins(["cosine=0.3", "cosine=0.4"])
