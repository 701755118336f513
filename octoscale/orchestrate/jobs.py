"""Runs on a cluster that is somewhere else, through Ray's job server: submit, follow, list, stop."""

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from octoscale.errors import OctoscaleError
from octoscale.orchestrate.job import Job
from octoscale.orchestrate.submission import JobPlan, Submission

try:
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient
except ImportError as error:
    raise OctoscaleError(f"jobs need Ray: pip install 'octoscale[ray]' ({error})") from error

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
# A log that is silent for longer is looked after.
_SILENT_SECONDS = 30.0
# A head that does not answer for longer is lost.
_RECONNECT_SECONDS = 60.0
_HOW_TO_AUTHENTICATE = (
    "set RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or in the file that RAY_AUTH_TOKEN_PATH names"
)


class UnreachableError(OctoscaleError):
    """No answer: the cluster may be gone, or only away."""


class JobServer:
    """Ray's job server at an address, ``http://host:8265``.

    Raises:
        OctoscaleError: it is no such address, nobody answers there within seconds (`UnreachableError`), it
            is not a Ray cluster, or it wants a token. Every method may raise it.
    """

    def __init__(self, address: str) -> None:
        if "@" in address:
            raise OctoscaleError("the address holds a user; a cluster's token goes into RAY_AUTH_TOKEN")
        try:
            parts = urlsplit(address)
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            known = None
        if not known:
            raise OctoscaleError(f"a job server's address is http://HOST:PORT (Ray's port is 8265), not {address!r}")
        self.address = address.rstrip("/")
        # Their lines tell of packages and sockets.
        for module in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
        try:
            self._client = _Client(self.address)
        except OctoscaleError:
            raise
        except AuthenticationError as error:
            raise OctoscaleError(f"RAY_AUTH_MODE is token, and there is no token; {_HOW_TO_AUTHENTICATE}") from error
        except (RuntimeError, KeyError, ValueError) as error:
            raise OctoscaleError(f"{self.address} answers, but not as a Ray cluster's job server: {error}") from error

    def jobs(self) -> list[Job]:
        """Attempts of runs, the newest first. Jobs of other programs are left out."""
        found = [Job.of(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted((job for job in found if job.run), key=lambda job: (job.started or 0, job.attempt), reverse=True)

    def job(self, name: str) -> Job:
        """The attempt with this id, or a run's newest attempt.

        Raises:
            OctoscaleError: the cluster has no such job.
        """
        jobs = self.jobs()
        attempts = [job for job in jobs if name in (job.id, job.run)]
        if not attempts:
            known = ", ".join(job.id for job in jobs[:5]) or "none"
            raise OctoscaleError(f"{self.address} has no job {name!r}; its newest: {known}")
        return max(attempts, key=lambda job: (job.id == name, job.attempt))

    def next_attempt(self, plan: JobPlan) -> Submission:
        """What is sent for the run's next attempt.

        Raises:
            OctoscaleError: another attempt has not ended.
        """
        attempts = [job for job in self.jobs() if job.run == plan.run]
        for job in attempts:
            if not job.is_over:
                raise OctoscaleError(
                    f"{job.id} is {job.status.lower()} and writes to the same directory, {plan.config.directory}; "
                    f"follow it (octoscale jobs logs {job.id} --follow) or stop it (octoscale jobs stop {job.id})"
                )
        return plan.attempt(max((job.attempt for job in attempts), default=0) + 1)

    def submit(self, submission: Submission) -> None:
        """Send it: the package, unless the cluster has it, and the request."""
        request = submission.request
        with tempfile.TemporaryDirectory(prefix="octoscale-submit-") as folder:
            package = Path(folder) / "package.zip"
            package.write_bytes(submission.package)
            self._client.submit_job(
                **{**request, "runtime_env": {**request["runtime_env"], "working_dir": str(package)}}
            )

    def logs(self, job: Job) -> str:
        """What the job has printed until now."""
        return str(self._client.get_job_logs(job.id))

    def follow(self, name: str, write: Callable[[str], None]) -> Job:
        """Hand on what the job prints until it has ended; a lost connection is taken up again for a minute.

        Raises:
            OctoscaleError: the job, or the cluster, is gone.
        """
        log = _Log(write)
        lost_since: float | None = None
        while True:
            try:
                asyncio.run(self._tail(name, log))
                job = self.job(name)
                if job.is_over:
                    # What came after the connection had ended.
                    log.start()
                    with suppress(OctoscaleError):
                        log.take(self.logs(job))
                    return job
                lost_since = None
            except UnreachableError:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > _RECONNECT_SECONDS:
                    raise
                logger.warning("no answer from %s; trying again", self.address)
            time.sleep(2)

    def stop(self, name: str, *, timeout_seconds: float = 90.0) -> Job:
        """Ask the job to end, and wait until it has.

        Raises:
            OctoscaleError: it had ended before, or still runs after `timeout_seconds`.
        """
        job = self.job(name)
        if job.is_over:
            raise OctoscaleError(f"{job.id} has ended: {job.status}")
        self._client.stop_job(job.id)
        deadline = time.monotonic() + timeout_seconds
        while not (job := self.job(job.id)).is_over:
            if time.monotonic() > deadline:
                raise OctoscaleError(f"{job.id} still runs {timeout_seconds:.0f} s after it was asked to stop")
            time.sleep(0.5)
        return job

    async def _tail(self, name: str, log: "_Log") -> None:
        """Hand on the log until its connection ends, or the job has."""
        log.start()
        chunks = self._client.tail_job_logs(name)
        try:
            while True:
                chunk = asyncio.ensure_future(anext(chunks, None))
                while not (await asyncio.wait({chunk}, timeout=_SILENT_SECONDS))[0]:
                    # A dead connection is as silent as a job that has nothing to say.
                    if (await asyncio.to_thread(self.job, name)).is_over:
                        return
                if (text := chunk.result()) is None:
                    return
                log.take(text)
        except (aiohttp.ClientError, RuntimeError, OSError) as error:
            # The job's state, asked for next, says what it means.
            logger.debug("the log of %s broke off: %s", name, error)


class _Log:
    """Writes a log once, though it is read again from its beginning after each lost connection."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._written = self._seen = 0

    def start(self) -> None:
        self._seen = 0

    def take(self, text: str) -> None:
        new = text[max(0, self._written - self._seen) :]
        self._seen += len(text)
        if new:
            self._write(new)
            self._written = self._seen


def submit_and_follow(
    server: JobServer,
    plan: JobPlan,
    *,
    max_resubmissions: int,
    write: Callable[[str], None],
    tell: Callable[[str], None],
) -> Job:
    """Submit the run, follow it, and submit it again where it was interrupted or its driver died.

    An error of the run itself, or a stop, ends it.
    """
    submission = server.next_attempt(plan)
    for left in range(max_resubmissions, -1, -1):
        server.submit(submission)
        tell(f"submitted {submission.id} to {server.address}")
        job = server.follow(submission.id, write)
        if not (left and job.may_go_on):
            break
        tell(f"{job.id} ended early ({job.cause}); {left} resubmissions are left")
        submission = plan.attempt(job.attempt + 1)
    return job


class _Client(JobSubmissionClient):
    """Ray's client, whose requests end in time, and whose errors are ours."""

    def _do_request(self, method: str, endpoint: str, **settings: Any) -> Any:
        where = self._address
        try:
            return super()._do_request(method, endpoint, timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS), **settings)
        except AuthenticationError as error:
            raise OctoscaleError(
                f"{where} refuses this user: {str(error).splitlines()[0]}; {_HOW_TO_AUTHENTICATE}"
            ) from error
        except requests.exceptions.RequestException as error:
            raise UnreachableError(
                f"no answer from a Ray cluster at {where} ({type(error).__name__}); is it up, and is its port open, or "
                "forwarded, to here?"
            ) from error

    def _raise_error(self, r: Any) -> NoReturn:
        # The server's own frames come before its message.
        last = ([line for line in r.text.splitlines() if line.strip()] or [""])[-1]
        raise OctoscaleError(f"{self._address} answers with {r.status_code}: {last.strip()}")
