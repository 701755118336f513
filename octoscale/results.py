"""What a run found out: evaluations before, during and after, as files and pictures."""

import logging
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import EvaluateConfig
from octoscale.evaluate.evaluation import Evaluation, Verification
from octoscale.evaluate.report import draw_accuracy_by_resolution, draw_roc
from octoscale.measured import Measured
from octoscale.models import FaceNetwork, save_weights

logger = logging.getLogger(__name__)


class Results:
    """The evaluations of one run, under `store`. Called by all ranks together; rank 0 writes.

    The data set is reached by the settings of `store`, which are the run's.
    """

    def __init__(self, store: Store, config: EvaluateConfig | None, world: World, measured: Measured) -> None:
        self._store = store
        self._config = config
        self._world = world
        self._measured = measured
        self._verification = None if config is None else Verification.load(config, store.config)
        self._last: Evaluation | None = None

    @property
    def baseline(self) -> Evaluation | None:
        """The evaluation before the first step, also after a resume; None: there was none."""
        if self._verification is None or not self._store.exists(_name(0)):
            return None
        text = self._store.read(_name(0)).decode(errors="replace")
        try:
            return Evaluation.from_json(text)
        except OctoscaleError as error:
            logger.warning("no comparison with the start: %s/%s is %s", self._store.url.rstrip("/"), _name(0), error)
            return None

    def evaluate(self, network: FaceNetwork, step: int) -> float | None:
        """Evaluate and keep the result; the score (mean accuracy of the first mode), higher is better."""
        if self._verification is None:
            return None
        started = time.perf_counter()
        evaluation = self._verification.evaluate(network, self._world, step=step)
        accuracy = [(mode, size, score.accuracy) for (mode, size), score in evaluation.scores.items()]
        self._measured.evaluated(time.perf_counter() - started, accuracy)
        means = {mode: evaluation.mean_accuracy(mode) for mode in evaluation.modes}
        logger.info("step %d  mean accuracy  %s", step, "  ".join(f"{m} {a:.2%}" for m, a in means.items()))
        if self._world.is_main:
            self._store.write(_name(step), evaluation.to_json().encode())
        self._last = evaluation
        return next(iter(means.values()))

    def evaluate_at_start(self, network: FaceNetwork) -> None:
        """Evaluate before the first step, unless the configuration says not to."""
        if self._config is not None and self._config.at_start:
            self.evaluate(network, 0)

    def evaluate_if_due(self, network: FaceNetwork, step: int, *, ends: bool) -> float | None:
        """Evaluate every so many steps, and at the end."""
        every = None if self._config is None else self._config.every_steps
        return self.evaluate(network, step) if ends or (every and step % every == 0) else None

    def conclude(
        self, network: FaceNetwork, step: int, *, whole: AbstractContextManager[None] | None = None
    ) -> Evaluation | None:
        """Write weights and pictures of the finished run; in `whole`, if given, all parameters are on this rank."""
        if self._verification is not None and (self._last is None or self._last.step != step):
            self.evaluate(network, step)
        baseline = self.baseline
        with tempfile.TemporaryDirectory(prefix="octoscale-results-") as folder:
            with whole or nullcontext():
                if self._world.is_main:
                    save_weights(network, Path(folder, "weights.pt"))
            if self._world.is_main:
                if self._last is not None:
                    self._draw(baseline, self._last, Path(folder))
                for path in sorted(Path(folder).iterdir()):
                    self._store.upload(path, path.name)
                    logger.info("wrote %s/%s", self._store.url.rstrip("/"), path.name)
        self._world.barrier()
        return self._last

    @staticmethod
    def _draw(baseline: Evaluation | None, final: Evaluation, folder: Path) -> None:
        # The configuration may have changed since the start; only like is drawn beside like.
        if baseline is None or baseline.scores.keys() != final.scores.keys():
            baseline = final
        draw_accuracy_by_resolution(baseline, final, folder / "accuracy_by_resolution.png")
        draw_roc(final, folder / "roc.png", before=baseline)


def _name(step: int) -> str:
    return f"evaluations/{step:08d}.json"
