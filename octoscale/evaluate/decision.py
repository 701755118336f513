"""Whether two images show one person, by the threshold of a run's evaluation."""

from dataclasses import dataclass

from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.evaluate.evaluation import Evaluation


@dataclass(frozen=True)
class Threshold:
    """The similarity from which on two images count as one person, and what it was found on."""

    similarity: float
    step: int
    resolution: int
    accuracy: float  # of the evaluation, 0–1
    flip: bool
    protocol: str


def threshold_of(run: str, step: int, storage: StorageConfig = DEFAULT) -> Threshold | None:
    """The threshold of a run's evaluation at `step`, of images as they are: at the highest evaluated resolution.

    Args:
        run: its directory, a local path or URL.
        storage: how it is reached.

    Returns:
        None where there is no such evaluation, or where accepting nobody or everybody was as good.

    Raises:
        OctoscaleError: the evaluation cannot be read.
    """
    store, name = Store(run, storage), f"evaluations/{step:08d}.json"
    if not store.exists(name):
        return None
    evaluation = Evaluation.from_json(store.read(name).decode(errors="replace"))
    resolution = evaluation.resolutions[-1]
    score = evaluation.scores[evaluation.modes[0], resolution]
    if score.threshold is None:
        return None
    return Threshold(1 - score.threshold, step, resolution, score.accuracy, evaluation.flip, evaluation.protocol)
