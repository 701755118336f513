"""One attempt of a run, as a cluster's job server tells of it."""

from dataclasses import dataclass
from typing import Any

from octoscale.errors import EXIT_FAILED, EXIT_INTERRUPTED
from octoscale.orchestrate.submission import ATTEMPT_KEY, RUN_KEY

_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


@dataclass(frozen=True)
class Job:
    """What the job server tells of one attempt.

    Attributes:
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        exit_code: the driver's; None while it runs, or where it was not seen to end.
        started: seconds since 1970; None before.
    """

    id: str
    run: str | None
    attempt: int
    directory: str | None
    status: str
    message: str
    exit_code: int | None
    started: float | None
    ended: float | None

    @property
    def is_over(self) -> bool:
        return self.status in _ENDED

    @property
    def end_code(self) -> int:
        """The exit code that says how the job ended: the driver's where it is one of a program's."""
        if self.status == "SUCCEEDED":
            return 0
        code = self.exit_code
        if code is None or code == 0:
            return EXIT_FAILED
        # Ended by a signal: a shell's way to say it.
        return code if code > 0 else 128 - code

    @property
    def may_go_on(self) -> bool:
        """Whether the same job could do better: it was interrupted, or its driver or node died. No error of its own."""
        code = self.exit_code
        return self.status == "FAILED" and (code is None or code == EXIT_INTERRUPTED or code < 0 or code > 128)

    @property
    def cause(self) -> str:
        """Why it ended early, in one line."""
        if self.exit_code == EXIT_INTERRUPTED:
            return "it was interrupted and has committed"
        first = (self.message.strip().splitlines() or ["its driver died"])[0]
        return first.split(", last available logs")[0]

    @classmethod
    def of(cls, details: Any) -> "Job":
        """What Ray's ``JobDetails`` tell."""
        metadata = details.metadata or {}
        attempt = metadata.get(ATTEMPT_KEY, "0")
        return cls(
            id=str(details.submission_id),
            run=metadata.get(RUN_KEY),
            attempt=int(attempt) if attempt.isdecimal() else 0,
            directory=metadata.get("directory"),
            status=str(details.status.value),
            message=details.message or "",
            exit_code=details.driver_exit_code,
            started=details.start_time and details.start_time / 1000,
            ended=details.end_time and details.end_time / 1000,
        )
