"""What was looked at, how it is, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

from octoscale.errors import OctoscaleError

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor's. `advice`: what to do where it is not ok."""

    name: str
    status: Status
    found: str
    advice: str | None = None

    @classmethod
    def failed(cls, name: str, error: OctoscaleError) -> "Check":
        """Our errors say what is wrong, then what to do."""
        found, _, advice = str(error).partition("; ")
        return cls(name, "failed", found, advice or None)
