"""The plans of a run: each computed once per node, the next one in the background, old ones deleted."""

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import octoscale
from octoscale.data.image_pool import Rows
from octoscale.data.index import Index, array_name
from octoscale.data.plan import pairs_per_batch
from octoscale.data.plan_file import PlanFile, PlanRequest
from octoscale.data.windowed_plan import check_window_fraction

logger = logging.getLogger(__name__)

# Below this a plan takes well under a second: less than finding a file for it is worth.
_IN_PROCESS_IMAGES = 1_000_000

# The package's own __init__ imports torch: a bare package of the same name in its place leaves it out, which saves
# seconds and hundreds of megabytes beside every training process.
_BACKGROUND = """
import json, sys, types
arguments = json.loads(sys.argv[1])
sys.path[:] = arguments.pop("sys_path")
package = types.ModuleType("octoscale")
package.__path__ = arguments.pop("package_path")
sys.modules["octoscale"] = package
from octoscale.data.plan_background import run
run(**arguments)
"""


class Planner:
    """The plan of any epoch of one run.

    Plans of small data sets are computed where they are asked for. Others are kept in
    ``cache_dir/plans``: the first process of a node that asks computes, the others wait for its file.
    Runs with other settings share the folder. The run's plans are deleted when they are two epochs old.

    One planner belongs to one thread. Close it, or use it as a context manager: a process that `prepare` started
    is ended, and one whose trainer is killed notices it within a second.
    """

    def __init__(
        self, index: Index, *, global_batch_size: int, seed: int, window_fraction: float | None, cache_dir: Path
    ) -> None:
        """Plan for a run of these settings.

        Args:
            window_fraction: None for the resident plan (`epoch_plan`), else that of the windowed plan.
            cache_dir: a folder of this node that its ranks share.

        Raises:
            OctoscaleError: an impossible batch size or window, or too few identities.
        """
        pairs_per_batch(index.images_per_identity, global_batch_size)
        if window_fraction is not None:
            check_window_fraction(window_fraction)
        self._index = index
        self._global_batch_size = global_batch_size
        self._seed = seed
        self._window_fraction = window_fraction
        self._directory = Path(cache_dir).expanduser() / "plans"
        self._in_process = len(index) < _IN_PROCESS_IMAGES
        self._background: _Background | None = None

    def epoch(self, epoch: int) -> Rows:
        """[batches, B] sample ids, read-only, int32 where they fit; memory-mapped for a large data set.

        Raises:
            OctoscaleError: the disk is full, or the folder cannot be used.
        """
        if self._in_process:
            plan = self._request(epoch).compute()
            plan.flags.writeable = False
            return plan
        loaded = self._file(epoch).load_or_compute()
        assert loaded is not None
        for old in range(epoch - 1):
            self._file(old).remove()
        return loaded

    def prepare(self, epoch: int) -> None:
        """Begin to compute the plan of `epoch` in a background process; one at a time.

        Returns at once. Nothing is done for a small data set, for a plan that is there, or while another process
        computes it. Should it fail, `epoch` computes the plan itself.
        """
        if self._in_process or (self._background is not None and self._background.runs_for(epoch)):
            return
        self.close()
        self._background = _Background(self._file(epoch))

    def ready(self, epoch: int) -> bool:
        """Whether `epoch` would return without computing for long."""
        return self._in_process or self._file(epoch).path.exists()

    def close(self) -> None:
        """End the background process, if one runs."""
        if self._background is not None:
            self._background.stop()
            self._background = None

    def __enter__(self) -> "Planner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, epoch: int) -> PlanRequest:
        return PlanRequest(
            index_fingerprint=self._index.fingerprint,
            identity_offsets=str(self._index.directory / array_name("identity_offsets")),
            shard_ids=str(self._index.directory / array_name("shard_ids")),
            global_batch_size=self._global_batch_size,
            seed=self._seed,
            window_fraction=self._window_fraction,
            epoch=epoch,
        )

    def _file(self, epoch: int) -> PlanFile:
        return PlanFile(self._request(epoch), self._directory)


class _Background:
    """A process that computes one plan."""

    def __init__(self, file: PlanFile) -> None:
        self._file = file
        arguments = {
            "sys_path": list(map(str, sys.path)),
            "package_path": list(octoscale.__path__),
            "request": asdict(file.request),
            "directory": str(file.path.parent),
            "parent": os.getpid(),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BACKGROUND, json.dumps(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C in the terminal is the trainer's: it commits its state, and then closes us.
            start_new_session=True,
        )
        self._stopped = False
        # Waits for the process from the start, so that it never stays a zombie.
        self._waiting = threading.Thread(target=self._wait, name="octoscale-plan", daemon=True)
        self._waiting.start()

    def runs_for(self, epoch: int) -> bool:
        return self._waiting.is_alive() and self._file.request.epoch == epoch

    def stop(self) -> None:
        self._stopped = True
        self._process.kill()
        self._waiting.join()
        if not self._file.path.exists():
            self._file.remove()

    def _wait(self) -> None:
        _, errors = self._process.communicate()
        if self._process.returncode and not self._stopped:
            last = errors.strip().rpartition("\n")[2] or f"exit code {self._process.returncode}"
            logger.warning(
                "the plan of epoch %d was not prepared in the background (%s); it is computed when the epoch begins",
                self._file.request.epoch,
                last,
            )
