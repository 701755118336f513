"""The background process that computes a plan ahead of its epoch; see `octoscale.data.planner`."""

import os
import threading
import time
from pathlib import Path
from typing import Any

from octoscale.data.plan_file import PlanFile, PlanRequest

_LOOK_FOR_PARENT_SECONDS = 0.5


def run(*, request: dict[str, Any], directory: str, parent: int) -> None:
    """Compute the plan of `request` at the lowest priority, and stop at once when the process `parent` ends."""
    os.nice(19)
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    PlanFile(PlanRequest(**request), Path(directory)).load_or_compute(wait=False)


def _exit_with(parent: int) -> None:
    # A process whose parent has ended is given another one.
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT_SECONDS)
    os._exit(1)
