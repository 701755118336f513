"""One line per event: time, rank where there are several, message."""

import logging
import sys

from rich.console import Console
from rich.logging import RichHandler

_LOGGER = "octoscale"


def set_up_logging(*, rank: int = 0, world_size: int = 1, quiet: bool = False, console: Console | None = None) -> None:
    """Log to stderr: every rank its warnings, rank 0 also what it does."""
    logger = logging.getLogger(_LOGGER)
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.INFO if rank == 0 and not quiet else logging.WARNING)
    prefix = f"rank {rank}  " if world_size > 1 else ""
    if console is not None and console.is_terminal:
        handler: logging.Handler = RichHandler(
            console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S", omit_repeated_times=False
        )
        handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(f"%(asctime)s  {prefix}%(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
