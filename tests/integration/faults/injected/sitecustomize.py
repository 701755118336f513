"""In every Python process of the lab's hosts: traces the steps of a run, and does to one rank what it is told.

``LAB/fault.json``: ``{"rank": 1, "step": 16, "kind": "kill", "pace": 0}``. Kinds that act before that step of that
rank: kill, term, stop, raise, slow (the rest of the run), hold (until the lab releases it). Kinds that act in that
step's commit, at the rank's own write: part, manifest, before-commit, after-commit. Each acts once in a run. A rank
that is alone takes `pace` seconds more for a step.
"""

import importlib.abc
import importlib.util
import inspect
import json
import os
import signal
import sys
import time
from pathlib import Path

LAB = Path(os.environ.get("OCTOSCALE_LAB", "/nonexistent"))
STAGES = ("part", "manifest", "before-commit", "after-commit")


def trace(**values):
    line = json.dumps({"time": time.time(), "pid": os.getpid(), **values}) + "\n"
    file = os.open(LAB / "trace.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


def fires(fault):
    """True for the first to ask."""
    try:
        os.close(os.open(LAB / "fired", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    trace(event=fault["kind"])
    return True


def act(kind):
    if kind == "raise":
        raise RuntimeError("an error of the lab's")
    if kind == "hold":
        (LAB / "held").write_text(str(os.getpid()))
        while not (LAB / "released").exists():
            time.sleep(0.02)
        return
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}[kind])


def wrap_steps(module):
    train_one_step = module.train_one_step

    parameters = inspect.signature(train_one_step)

    def traced(*arguments):
        called = parameters.bind(*arguments).arguments
        world, position = called["world"], called["position"]
        fault = json.loads((LAB / "fault.json").read_text())
        step = position.step + 1
        here = (world.rank, step) == (min(fault["rank"], world.world_size - 1), fault["step"])
        if fault["kind"] not in (*STAGES, "none", "slow") and here and fires(fault):
            act(fault["kind"])
        if fault["kind"] == "slow" and world.rank == fault["rank"] and step >= fault["step"]:
            if here and fires(fault):
                pass
            time.sleep(0.3)
        if world.world_size == 1:
            time.sleep(fault.get("pace", 0.0))
        done = train_one_step(*arguments)
        trace(event="step", step=done.step, rank=world.rank, world=world.world_size)
        return done

    module.train_one_step = traced


def wrap_writes(module):
    """The stages of a commit, told apart by the names of what is written."""

    def stage_of(name):
        if "commits/" in name:
            return "commit"
        if name.endswith("manifest.json"):
            return "manifest"
        return "part" if name.startswith(("step-", "parts")) else None

    def wrapped(method, name_of):
        def write(self, *arguments, **options):
            fault = json.loads((LAB / "fault.json").read_text())
            stage = stage_of(name_of(arguments))
            wanted = fault["kind"]
            mine = int(os.environ.get("RANK", "0")) == fault["rank"] and steps_done() >= fault["step"]
            if wanted in (stage, f"before-{stage}") and mine and fires(fault):
                act("kill")
            result = method(self, *arguments, **options)
            if wanted == f"after-{stage}" and mine and fires(fault):
                act("kill")
            return result

        return write

    module.Store.write = wrapped(module.Store.write, lambda arguments: arguments[0])
    module.Store.upload = wrapped(module.Store.upload, lambda arguments: arguments[1])


def wrap_planner(module):
    """Every data set's plans are kept in files, as those of large ones are."""
    if (LAB / "plans").is_dir():
        module._IN_PROCESS_IMAGES = 0


def wrap_plan_file(module):
    """Notes each plan that is computed, with its process."""
    compute = module.PlanRequest.compute

    def noted(self):
        if (LAB / "plans").is_dir():
            (LAB / "plans" / f"{self.epoch}-{os.getpid()}").touch()
        return compute(self)

    module.PlanRequest.compute = noted


def steps_done():
    """The newest step that this process has traced."""
    # The last line of another process may be in the making.
    *whole, _ = (LAB / "trace.jsonl").read_text().split("\n")
    lines = [json.loads(line) for line in whole]
    return max((line.get("step", 0) for line in lines if line["pid"] == os.getpid()), default=0)


class Hook(importlib.abc.MetaPathFinder):
    """Wraps a module's parts when it is imported."""

    WRAPPERS = {  # noqa: RUF012
        "octoscale.train": wrap_steps,
        "octoscale.data.storage": wrap_writes,
        "octoscale.data.planner": wrap_planner,
        "octoscale.data.plan_file": wrap_plan_file,
    }

    def find_spec(self, name, path, target=None):
        if name not in self.WRAPPERS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        execute = spec.loader.exec_module

        def then_wrap(module):
            execute(module)
            self.WRAPPERS[name](module)

        spec.loader.exec_module = then_wrap
        return spec


if LAB.is_dir():
    sys.meta_path.insert(0, Hook())
