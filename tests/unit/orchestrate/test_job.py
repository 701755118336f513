"""How one attempt of a run ended."""

import pytest

from octoscale.orchestrate.job import Job


@pytest.mark.parametrize(
    ("status", "exit_code", "ends_as", "may_go_on"),
    [
        ("SUCCEEDED", 0, 0, False),
        ("FAILED", 1, 1, False),
        ("FAILED", 2, 2, False),
        ("FAILED", 75, 75, True),
        ("FAILED", -9, 137, True),
        ("FAILED", 137, 137, True),
        ("FAILED", None, 1, True),
        ("STOPPED", None, 1, False),
    ],
)
def test_how_a_job_ended_is_how_the_command_ends(
    status: str, exit_code: int | None, ends_as: int, may_go_on: bool
) -> None:
    job = Job("run-1", "run", 1, None, status, "", exit_code, 1.0, 2.0)

    assert (job.end_code, job.may_go_on) == (ends_as, may_go_on)


@pytest.mark.parametrize(
    ("message", "exit_code", "cause"),
    [
        ("anything", 75, "it was interrupted and has committed"),
        ("Job failed with exit code -9, last available logs (truncated):\nlines", -9, "Job failed with exit code -9"),
        ("", None, "its driver died"),
    ],
)
def test_why_a_job_ended_is_one_line(message: str, exit_code: int | None, cause: str) -> None:
    assert Job("run-1", "run", 1, None, "FAILED", message, exit_code, 1.0, 2.0).cause == cause
