"""What the user can mend, as one exception type, and the exit codes of the command line."""

import re

EXIT_FAILED = 1
# BSD's EX_TEMPFAIL: "try again later". The run committed its state and can be resumed.
EXIT_INTERRUPTED = 75


class OctoscaleError(ValueError):
    """Bad input or surroundings: the message says what was wrong, the value, and what to do.

    The command line prints the message alone, without a traceback. Anything else that
    escapes is a defect of ours and keeps its traceback.
    """


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def first_line(error: Exception) -> str:
    """What another library's error says first; its type where it says nothing."""
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
