"""The margin that suits a metric, with and without normalised embeddings.

A margin is a difference of distances, so one number does not fit two metrics. The paper searched each one's by
experiment and printed only that of the Euclidean distance, 25. The others here follow from it and from the cosine
margin of configs/real_faces.yaml, 0.3, and stand for a search, not for its result:

- between unit vectors the squared Euclidean distance is twice the cosine distance: 0.6;
- near 1, where nearest negatives of unit vectors are, the Euclidean distance changes half as fast as its square, whose
  slope there is 2: half of that, 0.3;
- without normalisation the distance grows with the embeddings' norm and its square with the norm's square, so that
  of a margin m only m² fits networks of any norm: 25² = 625.
"""

from collections.abc import Mapping, Sequence

from octoscale.errors import OctoscaleError
from octoscale.loss.config import LossConfig
from octoscale.loss.distance import Metric

# (metric, normalize) in the order of the paper's rows; the cosine distance does not depend on the norms.
VARIANTS: dict[str, tuple[Metric, bool]] = {
    "euclidean": ("euclidean", False),
    "euclidean-normalized": ("euclidean", True),
    "euclidean_squared": ("euclidean_squared", False),
    "euclidean_squared-normalized": ("euclidean_squared", True),
    "cosine": ("cosine", False),
}
EUCLIDEAN, COSINE = 25.0, 0.3
_UNIT_SQUARED = 2 * COSINE
# The slope of the square at 1.
_UNIT = _UNIT_SQUARED / 2


def variant_of(loss: LossConfig) -> str:
    """Which of `VARIANTS` a loss is."""
    return loss.metric + ("-normalized" if loss.normalize and loss.metric != "cosine" else "")


def chosen_margins(loss: LossConfig, given: Mapping[str, float]) -> dict[str, float]:
    """The margin of every variant: as given, else the configuration's for its own variant, else the default.

    The default of euclidean_squared is the square of the Euclidean distance's margin.
    """
    own = {variant_of(loss): loss.margin, **given}
    euclidean = own.get("euclidean", EUCLIDEAN)
    defaults = {
        "euclidean": euclidean,
        "euclidean-normalized": _UNIT,
        "euclidean_squared": euclidean**2,
        "euclidean_squared-normalized": _UNIT_SQUARED,
        "cosine": COSINE,
    }
    return {variant: own.get(variant, defaults[variant]) for variant in VARIANTS}


def margin_of(loss: LossConfig) -> float:
    """The default margin of a loss's variant, around which others are tried."""
    return chosen_margins(LossConfig(), {})[variant_of(loss)]


def shown(margin: float) -> str:
    """As short as it can be without being another number."""
    short = f"{margin:g}"
    return short if float(short) == margin else repr(margin)


def parse_margins(texts: Sequence[str]) -> dict[str, float]:
    """``cosine=0.3`` and others, as `chosen_margins` takes them.

    Raises:
        OctoscaleError: no such variant, one twice, or not a margin.
    """
    margins: dict[str, float] = {}
    for text in texts:
        variant, _, number = text.partition("=")
        if variant not in VARIANTS or variant in margins:
            raise OctoscaleError(f"--margin takes METRIC=MARGIN, each metric once, not {text!r}; {', '.join(VARIANTS)}")
        try:
            margins[variant] = float(number)
        except ValueError:
            margins[variant] = -1.0
        if not 0 <= margins[variant] < float("inf"):
            raise OctoscaleError(f"--margin {text!r}: a margin is a number from 0")
    return margins
