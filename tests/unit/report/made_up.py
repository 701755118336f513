"""Parts of runs that never were."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from octoscale.checkpoint.attempts import Claim
from octoscale.checkpoint.layout import Commit
from octoscale.evaluate.config import Mode
from octoscale.evaluate.evaluation import Evaluation, Score
from octoscale.measured import StepLine
from octoscale.report.runs import Run
from octoscale.step import StepResult, TermMeans
from octoscale.telemetry.diagnostics import Diagnostics

MODES: tuple[Mode, ...] = ("cross", "same")


def score(accuracy: float) -> Score:
    curve = ((0.0, accuracy / 2), (0.1, accuracy), (1.0, 1.0))
    return Score(accuracy, 0.02, 1 - accuracy, accuracy, {0.1: accuracy, 0.001: None}, curve)


def evaluation(
    step: int,
    *,
    accuracy: float = 0.8,
    name: str = "",
    resolutions: Sequence[int] = (7, 112),
    modes: Sequence[Mode] = MODES,
) -> Evaluation:
    """Every resolution one point better than the one before it."""
    scores = {
        (mode, resolution): score(accuracy + 0.01 * place)
        for mode in modes
        for place, resolution in enumerate(resolutions)
    }
    return Evaluation(name, step, 50, 50, 10.0, scores)


def step_line(step: int) -> StepLine:
    terms = {
        term: TermMeans(loss / step, 0.5, 1.0 + place, 2.0 + place, 0.25, 0.125)
        for place, (term, loss) in enumerate({"hhh": 4.0, "lll": 8.0}.items())
    }
    diagnostics = Diagnostics(7.0 + step, {"hhh": 3, "lll": 2}) if step % 2 else None
    phases = {"embed": 0.2, "loss": 0.1, "exchange": 0.0}
    result = StepResult(12.0 / step, terms, 3.0, 10.0, diagnostics=diagnostics, phase_seconds=phases)
    return StepLine(step, 0, step - 1, 0, 1e-3 * step, 0.4, 0.1, result)


def commit(step: int) -> Commit:
    return Commit(step=step, attempt=2, prefix="step", score=0.875, manifest_sha256="0", unix_time=1.7e9)


def attempt(number: int) -> Claim:
    return Claim(number=number, token="t", host="node", pid=1, unix_time=1.7e9, version="0.1.0", failures=number - 1)


def made_up_run(name: str = "run", *, steps: int = 4, **changes: Any) -> Run:
    """A run with all that the report can show, apart from what needs its data set."""
    run = Run(
        target=f"nowhere/{name}",
        storage=None,
        name=name,
        values={"directory": name, "global_batch_size": 16, "steps": 4, "loss": {"margin": 25.0}},
        evaluations={"pairs": (evaluation(0, accuracy=0.6), evaluation(steps, accuracy=0.8))},
        lines=tuple(map(step_line, range(1, steps + 1))),
        commits=(commit(2), commit(steps)),
        record={
            "versions": {"octoscale": "0.1.0", "torch": "2.11.0"},
            "position": {"step": steps, "epoch": 0, "batch": steps, "samples_seen": 16 * steps},
            "ledger": {"seconds": {"productive": 60.0, "startup": 15.0, "rework": 25.0}, "written_at": 0.0},
        },
        attempts=(attempt(1), attempt(2)),
        rank_phases={},
        noise=None,
        problems=(),
    )
    return replace(run, **changes)
