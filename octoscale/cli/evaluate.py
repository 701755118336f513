"""The command evaluate."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from octoscale.cli.console import Json, Quiet, answer, make_file_writable, make_writable, out, output_of
from octoscale.cli.runs import NETWORK_HELP, Overrides
from octoscale.errors import OctoscaleError


def evaluate(
    target: Annotated[str, typer.Argument(help=NETWORK_HELP, show_default=False)],
    overrides: Overrides = None,
    pairs: Annotated[str | None, typer.Option(help="List of pairs; else the configured one.")] = None,
    images: Annotated[str | None, typer.Option(help="Folder of the images that it names.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Form of the list: lfw, calfw, cfp_fp, csv, ijbc, … (docs/evaluation.md).")
    ] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="One of evaluate.benchmarks, or all; may be repeated.")
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Add the mirror image's embedding, or not.")
    ] = None,
    resolution: Annotated[
        list[int] | None, typer.Option(min=1, help="Instead of the configured ones, px; may be repeated.")
    ] = None,
    align: Annotated[bool, typer.Option("--align", help="IJB: align the loose crops by their landmarks.")] = False,
    scores: Annotated[Path | None, typer.Option(help="Write the scores here, as JSON.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Draw the ROC curves into this folder.")] = None,
    best: Annotated[bool, typer.Option("--best", help="A run's best commit instead of its newest.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scores in the run, for octoscale compare.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Verification accuracy at every resolution, cross- and same-resolution; or templates (IJB), or 1:N (TinyFace).

    In this process, or as one rank under torchrun: the ranks share the images.
    """
    from octoscale.distributed.world import connected, world_from_environment
    from octoscale.evaluate.chosen import chosen
    from octoscale.evaluate.counted import counted
    from octoscale.evaluate.kept import check_keepable, keep_scores, write_scores
    from octoscale.evaluate.kinds import check, load
    from octoscale.evaluate.set_report import draw_any_roc, has_roc, render_any
    from octoscale.given import given_network
    from octoscale.resilience import ResilienceConfig
    from octoscale.telemetry.progress import stages

    world = world_from_environment()
    output = output_of(quiet=quiet or not world.is_main, as_json=as_json and world.is_main)
    given = given_network(target, overrides or (), best=best, data=[place for place in (pairs, images) if place])
    configured, storage, resilience = None, given.storage, ResilienceConfig()
    if given.config is not None:
        configured, storage, resilience = given.config.evaluate, given.config.storage, given.config.resilience
    if scores is not None:
        make_file_writable(scores, "--scores")
    if figures is not None:
        make_writable(figures, "--figures")
    wanted = chosen(
        configured, target, benchmarks=benchmark or (), protocol=protocol, pairs=pairs, images=images,
        flip=flip, resolutions=resolution or (), align=align,
    )  # fmt: skip
    kept_in = given.run if keep else None
    if keep and kept_in is None:
        raise OctoscaleError(
            f"--keep keeps the scores in a run, and {target} is a file; leave it out, or give --scores"
        )
    if kept_in is not None:
        if benchmark and (flip is not None or resolution or align):
            raise OctoscaleError(
                "--keep keeps a benchmark as it is configured: leave out --resolution, --flip and --align, or name "
                "another one in evaluate.benchmarks, where resolutions may stand too"
            )
        if not benchmark:
            check_keepable(wanted, configured, kept_in, given.storage)
    if figures is not None and not any(map(has_roc, wanted.values())):
        raise OctoscaleError(f"--figures: {', '.join(wanted)} has no ROC to draw; leave it out")
    if len(wanted) > 1:
        # A mistake in the last is found before the first, which may take hours.
        for name, settings in wanted.items():
            try:
                check(settings, storage)
            except OctoscaleError as error:
                raise OctoscaleError(f"{name}: {error}") from error
    network = given.network.to(world.device)
    found = []
    with connected(world, timeout_seconds=resilience.process_group_timeout_seconds):
        for name, settings in wanted.items():
            data = load(settings, storage)
            with (
                stages(output) as show,
                counted(network, data.passes, partial(show, f"evaluate {name}".strip()), ranks=world.world_size),
            ):
                evaluation = data.evaluate(network, world, step=given.step or 0, name=name)
            if not world.is_main:
                continue
            found.append(evaluation)
            answer(output, "scores", render_any(evaluation), **json.loads(evaluation.to_json()))
            if figures is not None:
                path = figures / ("roc.png" if len(wanted) == 1 else f"roc_{name}.png")
                if draw_any_roc(evaluation, path) and not as_json:
                    out.print(f"wrote {path}", markup=False, soft_wrap=True)
            if kept_in is not None:
                keep_scores([evaluation], kept_in, given.storage)
    if scores is not None and world.is_main:
        write_scores(found, scores)
