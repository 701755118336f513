"""The part of the command evaluate that is not about lists of pairs: templates (1:1) and galleries (1:N)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from octoscale.cli.console import out
from octoscale.errors import OctoscaleError

if TYPE_CHECKING:
    from octoscale.distributed.world import World
    from octoscale.evaluate.config import EvaluateConfig
    from octoscale.evaluate.identification import IdentificationScores
    from octoscale.evaluate.templates import TemplateScores
    from octoscale.telemetry.output import Output
    from octoscale.trained import Trained

TEMPLATES = ("ijbb", "ijbc")
GALLERIES = ("tinyface", "identification")


@dataclass(frozen=True)
class SetOptions:
    """What the command was given."""

    # The protocol's file or folder, and the folder of its images.
    protocol: str
    pairs: str
    images: str
    resolutions: Sequence[int]  # empty: the images as they are
    flip: bool | None
    align: bool


def evaluate_set(
    trained: "Trained", options: SetOptions, world: "World", scores: Path | None, output: "Output"
) -> None:
    """Evaluate templates or a gallery, print the figures, and write them to `scores`.

    Raises:
        OctoscaleError: a file is missing or malformed.
    """
    configured = trained.config.evaluate
    found = (
        _templates(trained, options, configured, world, output)
        if options.protocol in TEMPLATES
        else _gallery(trained, options, configured, world, output)
    )
    for one in found:
        output.event("scores", **json.loads(one.to_json()))
    if scores is not None:
        scores.write_text(f"[{', '.join(one.to_json() for one in found)}]\n")


def _templates(
    trained: "Trained", options: SetOptions, configured: "EvaluateConfig | None", world: "World", output: "Output"
) -> "list[TemplateScores]":
    from octoscale.evaluate.config import EvaluateConfig
    from octoscale.evaluate.counted import counted
    from octoscale.evaluate.protocols.ijb import read_ijb
    from octoscale.evaluate.protocols.stored import StoredImages
    from octoscale.evaluate.templates import evaluate_templates
    from octoscale.telemetry.progress import stages

    templates = read_ijb(options.pairs, "ijbb" if options.protocol == "ijbb" else "ijbc")
    if options.align and templates.landmarks is None:
        raise OctoscaleError(f"--align takes {options.protocol}_name_5pts_score.txt in {options.pairs}")
    images = StoredImages(templates.images, options.images, templates.landmarks if options.align else None)
    settings = configured or EvaluateConfig(pairs=options.pairs, images=options.images)
    flip = settings.flip if options.flip is None else options.flip
    resolutions = options.resolutions or (None,)
    total = len(images) * len(resolutions) * (2 if flip else 1)
    with stages(output) as show, counted(trained.network, total, partial(show, f"evaluate {options.protocol}")):
        found = [
            evaluate_templates(
                trained.network, templates, images, world, far=settings.far, resolution=resolution, flip=flip,
                batch_size=settings.batch_size, step=trained.step, name=options.protocol,
            )
            for resolution in resolutions
        ]  # fmt: skip
    first = found[0]
    measurable = [far for far, tar in first.tar_at_far.items() if tar is not None]
    title = f"{options.protocol}, % ({first.templates:,} templates, {first.impostor_pairs:,} impostor pairs)"
    table = Table("resolution", title=title, title_justify="left")
    for heading in ("equal\nerror rate", "area\nunder ROC", *(f"TAR at\nFAR {far:g}" for far in measurable)):
        table.add_column(heading, justify="right")
    for one in found:
        rates = (one.equal_error_rate, one.area_under_curve, *(one.tar_at_far[far] or 0.0 for far in measurable))
        table.add_row(_resolution(one.resolution), *(f"{100 * rate:.2f}" for rate in rates))
    if not output.has_events:
        out.print(table)
    return found


def _gallery(
    trained: "Trained", options: SetOptions, configured: "EvaluateConfig | None", world: "World", output: "Output"
) -> "list[IdentificationScores]":
    from octoscale.evaluate.counted import counted
    from octoscale.evaluate.identification import evaluate_identification
    from octoscale.evaluate.protocols.gallery import read_roles, read_tinyface
    from octoscale.evaluate.protocols.stored import StoredImages
    from octoscale.telemetry.progress import stages

    if options.align:
        raise OctoscaleError(f"--align is for {' and '.join(TEMPLATES)}; give aligned crops")
    tinyface = options.protocol == "tinyface"
    sets = read_tinyface(options.pairs, options.images) if tinyface else read_roles(options.pairs)
    images = StoredImages(sets.images, options.images)
    flip = bool(configured and configured.flip) if options.flip is None else options.flip
    resolutions = options.resolutions or (None,)
    total = (len(sets.gallery) + len(sets.probes)) * len(resolutions) * (2 if flip else 1)
    with stages(output) as show, counted(trained.network, total, partial(show, f"evaluate {options.protocol}")):
        found = [
            evaluate_identification(
                trained.network, sets, images, world, resolution=resolution, flip=flip,
                batch_size=configured.batch_size if configured else 128, step=trained.step, name=options.protocol,
            )
            for resolution in resolutions
        ]  # fmt: skip
    first = found[0]
    measurable = [rate for rate, tpir in first.tpir_at_fpir.items() if tpir is not None]
    title = (
        f"{options.protocol}, % ({first.mated_probes:,} + {first.non_mated_probes:,} probes with and without a mate "
        f"among {first.gallery:,})"
    )
    table = Table("resolution", title=title, title_justify="left")
    for heading in (*(f"rank {k}" for k in first.rank), *(f"TPIR at\nFPIR {rate:g}" for rate in measurable)):
        table.add_column(heading, justify="right")
    for one in found:
        rates = (*one.rank.values(), *(one.tpir_at_fpir[rate] or 0.0 for rate in measurable))
        table.add_row(_resolution(one.resolution), *(f"{100 * rate:.2f}" for rate in rates))
    if not output.has_events:
        out.print(table)
    return found


def _resolution(resolution: int | None) -> str:
    return "as they are" if resolution is None else f"{resolution} px"
