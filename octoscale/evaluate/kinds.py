"""Everything that can be evaluated: lists of pairs, templates and galleries.

Whatever it is of, an evaluation has a name and a step, is written as JSON and read again, and is made by what `load`
gives.
"""

from typing import Protocol, assert_never

from torch import nn

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.as_json import kind_of
from octoscale.evaluate.config import AnyConfig, EvaluateConfig, GalleryConfig, TemplateConfig
from octoscale.evaluate.embedding import check_resolutions
from octoscale.evaluate.evaluation import Evaluation, Verification
from octoscale.evaluate.identification import Identification, IdentificationEvaluation
from octoscale.evaluate.protocols import first_image
from octoscale.evaluate.templates import TemplateEvaluation, TemplateVerification

AnyEvaluation = Evaluation | TemplateEvaluation | IdentificationEvaluation
_KINDS: tuple[type[AnyEvaluation], ...] = (Evaluation, TemplateEvaluation, IdentificationEvaluation)


class Evaluable(Protocol):
    """A data set that was read."""

    @property
    def passes(self) -> int:
        """Images that go through the network, by all ranks."""

    def evaluate(self, network: nn.Module, world: World, *, step: int = 0, name: str = "") -> AnyEvaluation:
        """Evaluate a network, on `world.device`; every rank calls this. `step` and `name` are recorded."""


def load(config: AnyConfig, storage: StorageConfig = DEFAULT) -> Evaluable:
    """Read the data set that `config` names, reached by `storage`.

    Raises:
        OctoscaleError: a file is missing or malformed, or a resolution is larger than the images.
    """
    match config:
        case EvaluateConfig():
            return Verification.load(config, storage)
        case TemplateConfig():
            return TemplateVerification.load(config, storage)
        case GalleryConfig():
            return Identification.load(config, storage)
        case _:
            assert_never(config)


def check(config: AnyConfig, storage: StorageConfig = DEFAULT) -> None:
    """Find out whether `load` would fail, but for damaged images and images of different sizes.

    Raises:
        OctoscaleError: see `load`.
    """
    if isinstance(config, EvaluateConfig):
        # What is loaded of pairs are all images, decoded: too much to hold of several sets, and slow.
        check_resolutions(config.resolutions, first_image(config, storage), "evaluate.resolutions")
    else:
        load(config, storage)


def from_json(text: str) -> AnyEvaluation:
    """The inverse of an evaluation's `to_json`.

    Raises:
        OctoscaleError: not an evaluation, or of a kind that is not known.
    """
    found = kind_of(text)
    for kind in _KINDS:
        if kind.kind == found:
            return kind.from_json(text)
    raise OctoscaleError(f"an evaluation of another kind than is known here, {found}; update octoscale")
