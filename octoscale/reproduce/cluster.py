"""Cells as jobs of a Ray cluster that is somewhere else."""

import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from octoscale.errors import EXIT_INTERRUPTED, OctoscaleError
from octoscale.orchestrate.beside import looking
from octoscale.orchestrate.job import Job
from octoscale.orchestrate.jobs import JobServer, submit_and_follow
from octoscale.orchestrate.submission import JobPlan, plan_job
from octoscale.reproduce.cells import Cell
from octoscale.reproduce.process import StoppedError, Wish

logger = logging.getLogger(__name__)

_STEP = re.compile(r"  step ([\d,]+) of ([\d,]+)  ")
_LINES_KEPT = 20


class TrainOnCluster:
    """`Train` by the cluster's job server, whose address is given."""

    def __init__(
        self,
        address: str,
        cells: Sequence[Cell],
        *,
        env: Sequence[str],
        secrets: Sequence[str],
        installed: bool,
        max_resubmissions: int,
    ) -> None:
        """See `plan_job` and `submit_and_follow`.

        Raises:
            OctoscaleError: nobody answers at the address, or a cell cannot be a job, such as for a path that the
                nodes do not see.
        """
        self._plans = {
            cell.name: plan_job(cell.config, env=env, secrets=secrets, installed=installed) for cell in cells
        }
        self._address = JobServer(address).address
        self._max_resubmissions = max_resubmissions

    def __call__(self, cell: Cell, file: Path, wish: Wish, show: Callable[[int, int], None]) -> None:
        """See `Train`. A job that an earlier command has left running is followed. `wish` stops the job."""
        plan, log = self._plans[cell.name], _Log(show)
        # One for each thread: its connections are not to be shared.
        server = JobServer(self._address)
        running = [job for job in server.jobs() if job.run == plan.run and not job.is_over]
        with _stopped_at(wish, self._address, plan):
            left = self._max_resubmissions
            job: Job | None = None
            if running:
                logger.info("%s: goes on as %s", cell.name, running[0].id)
                job = server.follow(running[0].id, log.write)
                if left and job.may_go_on and not wish.asked:
                    logger.info("%s: %s ended early (%s); %d resubmissions left", cell.name, job.id, job.cause, left)
                    left, job = left - 1, None
            if job is None:
                job = submit_and_follow(
                    server, plan, max_resubmissions=left, write=log.write,
                    tell=lambda text: logger.info("%s: %s", cell.name, text),
                )  # fmt: skip
        if job.end_code == 0:
            return
        if job.status == "STOPPED" or job.end_code == EXIT_INTERRUPTED:
            raise StoppedError
        raise OctoscaleError(f"{job.id} {job.status.lower()}, exit code {job.end_code}: {log.cause or job.cause}")


class _Log:
    """The job's log as it comes: the steps are shown, the message of its end is kept."""

    def __init__(self, show: Callable[[int, int], None]) -> None:
        self._show = show
        self._rest = ""
        self._last = deque[str](maxlen=_LINES_KEPT)

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if found := _STEP.search(line):
                done, total = (int(number.replace(",", "")) for number in found.groups())
                self._show(done, total)
            if line.strip():
                self._last.append(line.rstrip())

    @property
    def cause(self) -> str:
        """From the error on, else the last line."""
        lines = list(self._last)
        errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
        return "\n".join(lines[errors[-1] :]).removeprefix("error: ") if errors else "".join(lines[-1:])


def _stopped_at(wish: Wish, address: str, plan: JobPlan) -> AbstractContextManager[None]:
    """While the block runs, `wish` stops the run's job, which commits first."""

    def look() -> bool:
        if not wish.asked:
            return False
        try:
            JobServer(address).stop(plan.run)
        except OctoscaleError as error:
            # Not there yet, or over: asked again, or the block ends.
            logger.debug("%s is not stopped: %s", plan.run, error)
            return False
        return True

    return looking(look, f"stop {plan.run}")
