"""Tables and pictures of evaluations."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.report import draw_accuracy_by_resolution, draw_roc, render


def shown(evaluation: Evaluation, baseline: Evaluation | None = None) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(render(evaluation, baseline))
    return captured.get()


def better(evaluation: Evaluation, gain: float) -> Evaluation:
    scores = {key: replace(score, accuracy=score.accuracy + gain) for key, score in evaluation.scores.items()}
    return replace(evaluation, step=9, scores=scores)


@pytest.fixture
def plain(evaluation: Evaluation) -> Evaluation:
    accuracies = np.linspace(0.6, 0.85, len(evaluation.scores))
    scores = {
        key: replace(score, accuracy=float(accuracy))
        for (key, score), accuracy in zip(evaluation.scores.items(), accuracies, strict=True)
    }
    return replace(evaluation, scores=scores)


def test_the_table_shows_percentages_and_their_mean(plain: Evaluation) -> None:
    row = next(line for line in shown(plain).splitlines() if line.startswith("│ cross"))

    assert [cell.strip() for cell in row.strip("│").split("│")] == ["cross", "60.00", "65.00", "70.00", "65.00"]


def test_intervals_are_shown_below_their_accuracy(plain: Evaluation) -> None:
    row = next(line for line in shown(plain).splitlines() if line.startswith("│ 95 %"))

    low, high = plain.scores["cross", 4].intervals["accuracy"]
    assert row.strip("│").split("│")[1].strip() == f"{100 * low:.1f}–{100 * high:.1f}"


def test_the_title_names_the_data_set(plain: Evaluation) -> None:
    assert "(tiny, 20 pairs)" in shown(plain)
    assert "(calfw, 20 pairs)" in shown(replace(plain, name="", protocol="calfw"))


def test_the_change_since_the_baseline_has_its_sign(plain: Evaluation) -> None:
    assert "+5.00" in shown(better(plain, 0.05), plain)
    assert "-5.00" in shown(better(plain, -0.05), plain)


@pytest.mark.parametrize("rounding", [1e-16, -1e-16])
def test_a_change_that_is_rounding_has_no_sign(plain: Evaluation, rounding: float) -> None:
    row = next(line for line in shown(better(plain, rounding), plain).splitlines() if line.startswith("│ change"))

    assert {cell.strip() for cell in row.strip("│").split("│")} == {"change", "0.00"}


def test_a_baseline_at_other_resolutions_is_not_compared(plain: Evaluation) -> None:
    scores = {(mode, 2 * resolution): score for (mode, resolution), score in plain.scores.items()}

    assert "change" not in shown(plain, replace(plain, scores=scores))


def test_the_tables_fit_eighty_columns(plain: Evaluation) -> None:
    assert "…" not in shown(better(plain, 0.05), plain)


def test_a_missing_tar_has_its_reason(plain: Evaluation) -> None:
    assert "TAR at FAR 0.01 takes 100 impostor pairs; there are 10" in shown(plain)


def coloured(path: Path) -> int:
    """The number of pixels that are neither white nor grey."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int(((pixels.max(2) - pixels.min(2)) > 40).sum())


def test_accuracies_are_drawn(plain: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "accuracy.png"

    draw_accuracy_by_resolution(plain, better(plain, 0.1), path)

    assert coloured(path) > 5000


@pytest.mark.parametrize("with_before", [False, True])
def test_rocs_are_drawn(plain: Evaluation, tmp_path: Path, with_before: bool) -> None:
    path = tmp_path / "roc.png"

    draw_roc(plain, path, before=plain if with_before else None)

    assert coloured(path) > 5000


def test_drawing_leaves_the_global_state_of_pyplot_alone() -> None:
    modules = "octoscale.evaluate.report, octoscale.evaluate.octuplet_figure"
    code = f"import sys, {modules}; sys.exit('matplotlib.pyplot' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
