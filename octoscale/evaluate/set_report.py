"""Evaluations of any kind for people; those of pairs have more to tell, see `octoscale.evaluate.report`."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octoscale.evaluate.config import AnyConfig, GalleryConfig
from octoscale.evaluate.curves import fewest_impostors
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.identification import IdentificationEvaluation
from octoscale.evaluate.kinds import AnyEvaluation
from octoscale.evaluate.report import draw_roc, draw_template_roc, render
from octoscale.evaluate.style import size_text
from octoscale.evaluate.templates import TemplateEvaluation


def render_any(evaluation: AnyEvaluation) -> RenderableType:
    """Tables of all scores in %."""
    if isinstance(evaluation, Evaluation):
        return render(evaluation)
    rates = {resolution: score.rates for resolution, score in evaluation.scores.items()}
    title = "Templates" if isinstance(evaluation, TemplateEvaluation) else "Identification"
    name = evaluation.name or evaluation.protocol
    table = Table("resolution", title=f"{title}, % ({name})", title_justify="left")
    # The others have their note.
    columns = [column for column, rate in next(iter(rates.values())).items() if rate is not None]
    for column in columns:
        table.add_column(column.replace(" at ", " at\n"), justify="right")
    for resolution, row in rates.items():
        table.add_row(size_text(resolution), *(f"{100 * (row[column] or 0):.2f}" for column in columns))
        intervals = evaluation.scores[resolution].interval_of
        if intervals:
            ends = (intervals[column] for column in columns)
            table.add_row("95 %", *(f"{100 * low:.1f}–{100 * high:.1f}" for low, high in ends), style="dim")
    return Group(table, *(Text(note, style="dim") for note in _notes(evaluation)))


def _notes(evaluation: TemplateEvaluation | IdentificationEvaluation) -> Iterator[str]:
    """What there is, then which rates are not measurable, and why."""
    if isinstance(evaluation, TemplateEvaluation):
        yield (
            f"{evaluation.images:,} images in {evaluation.templates:,} templates; {evaluation.genuine_pairs:,} genuine "
            f"and {evaluation.impostor_pairs:,} impostor pairs"
        )
        rates = next(iter(evaluation.scores.values())).tar_at_far
        kind, there = "TAR at FAR", f"impostor pairs; there are {evaluation.impostor_pairs:,}"
    else:
        yield (
            f"{evaluation.gallery:,} images in the gallery, {evaluation.distractors:,} of them distractors; "
            f"{evaluation.mated_probes:,} probes with a mate, {evaluation.non_mated_probes:,} without"
        )
        rates = next(iter(evaluation.scores.values())).tpir_at_fpir
        kind, there = "TPIR at FPIR", f"probes without a mate; there are {evaluation.non_mated_probes:,}"
    for rate, value in rates.items():
        if value is None:
            yield f"{kind} {rate:g} takes {fewest_impostors(rate):,} {there}"


def has_roc(config: AnyConfig) -> bool:
    """Whether what `config` evaluates can be drawn by `draw_any_roc`."""
    return not isinstance(config, GalleryConfig)


def draw_any_roc(evaluation: AnyEvaluation, path: Path) -> bool:
    """Draw the ROC at each resolution, as a PNG; false where there is none.

    Args:
        path: a local file to write.
    """
    match evaluation:
        case Evaluation():
            draw_roc(evaluation, path)
        case TemplateEvaluation():
            draw_template_roc(evaluation, path)
        case _:
            return False
    return True
