"""Commands of a run: train, launch, noise, quickstart, config."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octoscale.cli.console import Json, Quiet, answer, errors, out, output_of, tell
from octoscale.errors import EXIT_INTERRUPTED, OctoscaleError

if TYPE_CHECKING:
    from octoscale.evaluate.evaluation import Evaluation
    from octoscale.telemetry.output import Output

# Each command imports what it runs: `octoscale --help` answers at once.

ConfigArgument = Annotated[str, typer.Argument(help="A run's configuration, YAML: a path or URL.", show_default=False)]
# Of a network that is evaluated, exported or applied: see octoscale.given.
NETWORK_HELP = "A run's directory; a configuration: its starting network; or a file: of export, or of weights."
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.sub=value: wins over the file.", show_default=False, metavar="KEY=VALUE")
]

Workers = Annotated[
    str | None,
    typer.Option(help="Ranks, one GPU or one CPU each: N, or MIN..MAX; wins over resilience.workers.", metavar="N"),
]
MaxFailures = Annotated[
    int | None, typer.Option(min=0, help="How often failed workers are started again; resilience.max_failures.")
]


def resilience_overrides(workers: str | None, max_failures: int | None) -> list[str]:
    """The options as overrides of the configuration."""
    options = (("workers", workers), ("max_failures", max_failures))
    return [f"resilience.{key}={value}" for key, value in options if value is not None]


def train(config: ConfigArgument, overrides: Overrides = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Train in this process, or as one rank under torchrun. Goes on where the run's last commit left off.

    Exit code 75: stopped by SIGTERM, committed; the same command goes on.
    """
    from octoscale.config import load_config
    from octoscale.distributed.world import world_from_environment
    from octoscale.telemetry.logging import set_up_logging
    from octoscale.train import train as train_run

    world = world_from_environment()
    set_up_logging(rank=world.rank, world_size=world.world_size, quiet=quiet, console=errors)
    output = output_of(quiet=quiet, as_json=as_json)
    resolved = load_config(config, overrides or ())
    summary = train_run(resolved, world, console=errors, quiet=quiet, tell=output.event)
    if world.is_main:
        ended = (summary.status, summary.position.step, resolved.directory)
        _answer_results(output, *ended, summary.baseline, summary.final)
    if summary.status == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


def launch(
    config: ConfigArgument,
    overrides: Overrides = None,
    workers: Workers = None,
    address: Annotated[
        str | None, typer.Option(help="An existing Ray cluster (auto, host:port); else one on this machine.")
    ] = None,
    max_failures: MaxFailures = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train under Ray Train. When a worker or a node dies, the run goes on from its last commit.

    Exit code 75: stopped by SIGTERM, committed; the same command goes on.
    """
    from octoscale.config import load_config
    from octoscale.orchestrate.ray_train import launch as launch_run
    from octoscale.telemetry.logging import set_up_logging
    from octoscale.telemetry.progress import training

    set_up_logging(quiet=quiet, console=errors)
    output = output_of(quiet=quiet, as_json=as_json)
    resolved = load_config(config, [*(overrides or ()), *resilience_overrides(workers, max_failures)])
    with training(errors, quiet=quiet, tell=output.event) as told:
        result = launch_run(resolved, address=address, quiet=quiet, tell=told)
    _answer_results(output, result.status, result.step, resolved.directory, result.baseline, result.final)
    if result.status == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)
    if not as_json:
        text = f"finished after step {result.step}; results are in {resolved.directory}"
        out.print(text, markup=False, soft_wrap=True)


def noise(
    target: Annotated[
        str, typer.Argument(help="A configuration (its starting network), or a run's directory.", show_default=False)
    ],
    overrides: Overrides = None,
    ledger: Annotated[str, typer.Option("--output", help="Where the ledger goes, a path or URL.")] = "noise",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of batches to mine.")] = 10,
    batch: Annotated[
        int | None, typer.Option(help="Images per mined batch; by default half of the identities, at most 8,192.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="A negative is suspicious below this × the positive's distance.")] = 0.95,
    top: Annotated[int, typer.Option(min=1, help="Pairs in the table and in the picture.")] = 24,
    best: Annotated[bool, typer.Option("--best", help="A run's best commit instead of its newest.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find probable mislabels of a data set: two folders of one person, and images in the wrong folder.

    Embeds every image once, mines the hardest negatives of the planned batches, and looks at the identities that come
    suspiciously near. Writes pairs.csv, samples.csv, noise.json and pairs.png. Changes nothing in the data set.
    """
    from octoscale.data.storage import Store
    from octoscale.distributed.world import default_device
    from octoscale.feed import open_data
    from octoscale.noise.report import as_document, render, write_ledger
    from octoscale.noise.survey import survey
    from octoscale.telemetry.progress import stages
    from octoscale.trained import load_trained

    trained = load_trained(target, overrides or (), best=best)
    if trained.step == 0 and trained.config.model.weights is None:
        errors.print("[yellow]no model.weights[/]: a network that has learned nothing finds no mislabels")
    destination = Store(ledger, trained.config.storage)
    destination.probe_writable()
    data = open_data(trained.config)
    index, reader, device = data.index, data.reader, default_device(0)
    output = output_of(quiet=quiet, as_json=as_json)
    with stages(output) as show:
        data.keep_all(lambda done, total: show("fetch", done, total))
        found = survey(
            trained.network.to(device), index, reader,
            device=device, global_batch_size=batch, epochs=epochs, alpha=alpha, seed=trained.config.seed, progress=show,
        )  # fmt: skip
    write_ledger(found, index, reader, destination, top=top)
    answer(output, "noise", render(found, index, top=top), **json.loads(as_document(found, index)), url=ledger)
    if not as_json:
        out.print(f"wrote {ledger}", markup=False, soft_wrap=True)


def quickstart(
    directory: Annotated[
        Path, typer.Option(help="Where everything goes; empty, absent, or of a quickstart that was stopped.")
    ] = Path("quickstart"),
    faces: Annotated[
        Path | None, typer.Option(help="Your faces: IDENTITY/IMAGE, or a folder with train/ and verify/.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="LFW-form pairs.txt of your verification images.")] = None,
    images: Annotated[Path | None, typer.Option(help="Your verification images; by default FACES/verify.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights of the network to fine-tune.")] = None,
    model: Annotated[str, typer.Option(help="The network that your weights belong to.")] = "mobilefacenet",
    workers: Annotated[int, typer.Option(min=1, help="Ranks under local Ray.")] = 2,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The whole way once: faces, shards, a network that fails at low resolution, and its repair.

    Without options it draws synthetic faces and trains a small network on them first.
    Exit code 75: stopped by SIGTERM while it trained, committed; the same command goes on.
    """
    from octoscale.quickstart import Faces, run_quickstart
    from octoscale.telemetry.logging import set_up_logging

    set_up_logging(quiet=quiet, console=errors)
    output = output_of(quiet=quiet, as_json=as_json)
    given = (faces, pairs, weights)
    if any(given) and not all(given):
        raise OctoscaleError("your own faces need --faces, --pairs and --weights together")
    own = None
    if faces is not None and pairs is not None and weights is not None:
        own = Faces.of_user(faces, pairs, images, weights, model)
    result, run = run_quickstart(directory, own, workers=workers, console=errors if as_json else out, output=output)
    if as_json:
        _answer_results(output, result.status, result.step, str(run), result.baseline, result.final)
    if result.status == "interrupted":
        tell(f"stopped after step {result.step} of {run} was committed; the same command goes on")
        raise typer.Exit(EXIT_INTERRUPTED)


def config_show(
    config: ConfigArgument,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print the resolved configuration: file, overrides and defaults."""
    from octoscale.config import load_config

    resolved = load_config(config, overrides or ())
    if as_json:
        output_of(as_json=True).event("config", config=resolved.model_dump(mode="json"))
    else:
        sys.stdout.write(resolved.to_yaml())


def _answer_results(
    output: "Output", status: str, step: int, directory: str, baseline: "Evaluation | None", final: "Evaluation | None"
) -> None:
    from octoscale.evaluate.report import render

    if output.has_events:
        accuracy = {name: _accuracy(found) for name, found in (("baseline", baseline), ("final", final))}
        output.event("result", status=status, step=step, directory=directory, accuracy=accuracy)
    elif final is not None:
        out.print(render(final, baseline))


def _accuracy(evaluation: "Evaluation | None") -> dict[str, dict[int, float]] | None:
    """By mode and resolution."""
    if evaluation is None:
        return None
    found: dict[str, dict[int, float]] = {}
    for (mode, resolution), score in evaluation.scores.items():
        found.setdefault(mode, {})[resolution] = score.accuracy
    return found
