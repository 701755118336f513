"""Commands as a user calls them, in this process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


class Octoscale(Protocol):
    def __call__(self, *arguments: str | Path) -> Answer:
        """Run the command in this process."""


def refused(answer: Answer, *texts: str | Path) -> None:
    """Exit code 1 and one message on stderr that says all of this, without a traceback."""
    assert answer.code == 1, answer
    assert answer.err.startswith("error: ") or "\nerror: " in answer.err, answer.err
    assert "Traceback" not in answer.err
    message = answer.err[answer.err.index("error: ") :]
    for text in texts:
        assert str(text) in message, message
