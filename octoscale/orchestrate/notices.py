"""In a worker: notices that it is to leave. Each becomes a wish to commit at the next step and end."""

import logging
import signal
import threading
import time

import ray
import ray.train
from ray.train.v2._internal.execution.callback import WorkerCallback

from octoscale.interruption import Interruption
from octoscale.orchestrate.bell import listen

logger = logging.getLogger(__name__)

# A worker's process lives for one attempt. Ray calls the callback in its main thread, the training is in another.
wish = Interruption()


class CatchSigterm(WorkerCallback):
    """SIGTERM as a wish. Ray's own handler ends the process in the middle of a step."""

    def after_init_train_context(self) -> None:
        signal.signal(signal.SIGTERM, wish.ask)


def watch_for_preemption(every_seconds: float) -> None:
    """Ask Ray in the background, on all ranks together, whether one of their nodes is being drained.

    `get_preemption_info` waits for all ranks: in a thread of its own it costs no step anything. The ranks need not see
    the answer at the same step, since the wish of one of them is agreed on with each step.
    """

    def ask() -> None:
        try:
            while (notice := ray.train.get_preemption_info()) is None:
                time.sleep(every_seconds)
        except ray.exceptions.RayError:
            return  # the attempt is over: Ray has ended what the ranks meet in
        logger.warning("the nodes of ranks %s will be taken away: committing", notice.preempted_ranks)
        wish.ask()

    # Ends with its worker's process.
    threading.Thread(target=ask, name="preemption", daemon=True).start()


def watch_for_the_bell(name: str) -> None:
    """Hear, in the background, when the driver or Ray's controller asks this group of workers to leave."""

    def hear() -> None:
        why = listen(name)
        if why is not None:
            logger.warning("%s: committing", why)
            wish.ask()

    threading.Thread(target=hear, name="bell", daemon=True).start()
