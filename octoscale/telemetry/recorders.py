"""Files that keep the metrics of rank 0, step by step."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from octoscale.errors import OctoscaleError

logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """Keeps metrics by step."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """What has changed in `step`, by the metric's name and label values: ``octoscale_loss/hhh``."""

    def close(self) -> None:
        """Nothing more will come."""


class JsonLines:
    """One JSON object a line in ``metrics.jsonl``. A step that is replayed after a fault has another line, further on.

    A disk that is full ends the file, not the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"
        # A line at a time, so that a reader and a killed run find whole ones.
        self._file = self._path.open("a", buffering=1)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        if self._file.closed:
            return
        try:
            self._file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        except OSError as error:
            logger.warning("%s ends at step %d: %s", self._path, step, error.strerror)
            self.close()

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:
            # Closed all the same; what it could not write was told.
            assert self._file.closed


class TensorBoard:
    """Event files in ``tensorboard/``, written by a thread of tensorboardX.

    Raises:
        OctoscaleError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise OctoscaleError(
                "telemetry.recorders has tensorboard, which needs tensorboardX: pip install 'octoscale[tensorboard]', "
                "or leave it out"
            ) from error
        # No limit: a full queue, whose thread has met a full disk, would hold the training up.
        self._writer = SummaryWriter(str(folder / "tensorboard"), max_queue=0)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
