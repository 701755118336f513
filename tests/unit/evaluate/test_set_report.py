"""Tables and pictures of templates and galleries."""

from pathlib import Path

from PIL import Image
from rich.console import Console

from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.identification import IdentificationEvaluation, IdentificationScore
from octoscale.evaluate.kinds import AnyEvaluation
from octoscale.evaluate.set_report import draw_any_roc, render_any
from octoscale.evaluate.templates import TemplateEvaluation, TemplateScore


def shown(evaluation: AnyEvaluation) -> list[str]:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(render_any(evaluation))
    return captured.get().splitlines()


def row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def templates() -> TemplateEvaluation:
    curve = ((0.0, 0.5), (0.02, 0.8), (1.0, 1.0))
    intervals = {"equal_error_rate": (0.1, 0.15), "area_under_curve": (0.9, 0.96), "tar_at_far_0.1": (0.75, 0.8512)}
    intervals["tar_at_far_0.01"] = (0.5, 0.6)
    scores = {
        size: TemplateScore(0.125, 0.9375, {0.1: 0.8, 0.01: 0.5 + size / 100, 0.001: None}, curve, found)
        for size, found in ((7, intervals), (14, {}))
    }
    return TemplateEvaluation("mine", 3, "ijbc", 900, 40, 100, 500, False, True, True, {**scores})


def gallery() -> IdentificationEvaluation:
    score = IdentificationScore({1: 0.5, 5: 0.75}, {0.1: 0.25, 0.01: None})
    return IdentificationEvaluation("", 3, "tinyface", 1200, 4, 1000, 50, False, {None: score})


def test_templates_have_a_row_for_each_resolution() -> None:
    lines = shown(templates())

    assert lines[0].strip() == "Templates, % (mine)"
    assert [row(line) for line in lines if "px" in line or "–" in line] == [
        ["7 px", "12.50", "93.75", "80.00", "57.00"],
        ["95 %", "10.0–15.0", "90.0–96.0", "75.0–85.1", "50.0–60.0"],
        ["14 px", "12.50", "93.75", "80.00", "64.00"],
    ]
    assert lines[-2:] == [
        "900 images in 40 templates; 100 genuine and 500 impostor pairs",
        "TAR at FAR 0.001 takes 1,000 impostor pairs; there are 500",
    ]


def test_galleries_have_ranks_and_what_is_measurable() -> None:
    lines = shown(gallery())

    assert lines[0].strip() == "Identification, % (tinyface)"
    assert [row(line) for line in lines if "as they" in line] == [["as they are", "50.00", "75.00", "25.00"]]
    text = " ".join(line.strip() for line in lines[-3:-1])
    assert text == "1,200 images in the gallery, 4 of them distractors; 1,000 probes with a mate, 50 without"
    assert lines[-1] == "TPIR at FPIR 0.01 takes 100 probes without a mate; there are 50"


def test_what_has_a_roc_is_drawn(evaluation: Evaluation, tmp_path: Path) -> None:
    for number, (one, drawn) in enumerate(((evaluation, True), (templates(), True), (gallery(), False))):
        path = tmp_path / f"{number}.png"
        assert draw_any_roc(one, path) is drawn
        assert path.exists() is drawn
        if drawn:
            with Image.open(path) as picture:
                colors = picture.convert("RGB").getcolors(1 << 24)
                assert colors is not None
                assert len(colors) > 100
