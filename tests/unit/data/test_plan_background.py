"""The process that computes a plan ahead of its epoch."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import octoscale
from octoscale.data import planner
from octoscale.data.index import Index, array_name
from octoscale.data.plan_file import PlanRequest


def until(condition: Callable[[], object], seconds: float = 180) -> None:
    """So long, since a process of the lowest priority may have a hundredth of a core that others use."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_alive(process_id: int) -> bool:
    """A zombie is not: what is left of an orphan is its new parent's business."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def background_command(packed: Index, folder: Path, extra: str) -> list[str]:
    """The command of the process that a planner starts, with `extra` code after its imports."""
    request = PlanRequest(
        index_fingerprint=packed.fingerprint,
        identity_offsets=str(packed.directory / array_name("identity_offsets")),
        shard_ids=str(packed.directory / array_name("shard_ids")),
        global_batch_size=4,
        seed=0,
        window_fraction=None,
        epoch=0,
    )
    arguments = {
        "sys_path": sys.path,
        "package_path": list(octoscale.__path__),
        "request": asdict(request),
        "directory": str(folder),
        "parent": os.getpid(),
    }
    code = planner._BACKGROUND.replace("run(**arguments)", f"{extra}\nrun(**arguments)")
    return [sys.executable, "-c", code, json.dumps(arguments)]


def test_the_background_process_is_light_and_gives_way_to_others(packed: Index, tmp_path: Path) -> None:
    check = (
        "import atexit, os\n"
        "heavy = {'torch', 'pydantic', 'fsspec', 'PIL'}\n"
        "atexit.register(lambda: print(os.getpriority(os.PRIO_PROCESS, 0), heavy & set(sys.modules)))"
    )

    done = subprocess.run(background_command(packed, tmp_path, check), capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "19 set()"
    assert list(tmp_path.glob("plan-*.npy"))


def test_the_background_process_ends_when_the_trainer_is_killed(packed: Index, tmp_path: Path) -> None:
    forever = (
        "import time\n"
        "from octoscale.data.plan_file import PlanRequest\n"
        "PlanRequest.compute = lambda self: time.sleep(600)"
    )
    command = background_command(packed, tmp_path, forever)
    trainer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import json, os, subprocess, sys, time\n"
            "command = json.loads(sys.argv[1])\n"
            "command[3] = json.dumps(json.loads(command[3]) | {'parent': os.getpid()})\n"
            "print(subprocess.Popen(command).pid, flush=True)\n"
            "time.sleep(600)",
            json.dumps(command),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert trainer.stdout is not None
    background = int(trainer.stdout.readline())
    until(lambda: list(tmp_path.glob("plan-*.lock")))
    assert is_alive(background)

    trainer.kill()
    trainer.communicate()

    until(lambda: not is_alive(background), seconds=60)
