"""Commands of networks as files: weights inspect, export."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from octoscale.cli.console import Json, answer, make_file_writable, output_of
from octoscale.cli.runs import NETWORK_HELP, Overrides
from octoscale.errors import OctoscaleError

# Each command imports what it runs: `octoscale --help` answers at once.

app = typer.Typer(no_args_is_help=True, help="Look at files of weights.")


@app.callback()
def _weights() -> None:
    pass


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="Weights, or a whole network as a file.", show_default=False)],
    dialect: Annotated[str | None, typer.Option(help="Read them as this one: model.dialect.")] = None,
    as_json: Json = False,
) -> None:
    """Tell whose weights a file holds: dialect, network, embedding, preprocessing, parameters. Runs no code in it."""
    from octoscale.models.dialects import PREPROCESSING
    from octoscale.models.inspection import inspect_file

    known = {name: name for name in PREPROCESSING}
    if dialect is not None and dialect not in known:
        raise OctoscaleError(f"no dialect {dialect!r}; choose one of {', '.join(known)}")
    found = inspect_file(file, None if dialect is None else known[dialect])
    table = Table(show_header=False, box=None, title=escape(str(file)))
    for key, value in found.items():
        if value or key in ("dialect", "network"):
            table.add_row(key, escape(_shown(value)))
    answer(output_of(as_json=as_json), "weights", table, path=str(file), **found)


def export(
    target: Annotated[str, typer.Argument(help=NETWORK_HELP, show_default=False)],
    overrides: Overrides = None,
    onnx: Annotated[Path | None, typer.Option(help="Write an ONNX file (.onnx).")] = None,
    torchscript: Annotated[Path | None, typer.Option(help="Write a TorchScript file (.pt).")] = None,
    pt2: Annotated[Path | None, typer.Option(help="Write a torch.export file (.pt2).")] = None,
    safetensors: Annotated[Path | None, typer.Option(help="Write the weights (.safetensors).")] = None,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels of the images that the network takes.")] = 112,
    step: Annotated[int | None, typer.Option(help="A run's commit of this step instead of the newest.")] = None,
    best: Annotated[bool, typer.Option("--best", help="A run's best commit instead of the newest.")] = False,
    as_json: Json = False,
) -> None:
    """Write a network to files that other programs run. Each is read again and compared, and kept if it is the same."""
    wanted: dict[Any, Path | None] = {"onnx": onnx, "torchscript": torchscript, "pt2": pt2, "safetensors": safetensors}
    files = {form: path for form, path in wanted.items() if path is not None}
    if not files:
        raise OctoscaleError("say what to write: --onnx FILE, --torchscript FILE, --pt2 FILE or --safetensors FILE")
    for form, path in files.items():
        make_file_writable(path.absolute(), f"--{form}")

    from octoscale.export import export as export_network
    from octoscale.given import given_network

    given = given_network(target, overrides or (), best=best, step=step)
    after = "" if given.step is None else f" after step {given.step}"
    for form, path in files.items():
        written = export_network(given.network, path, form, image_size=image_size)
        answer(
            output_of(as_json=as_json),
            "exported",
            f"wrote {path}: {written.card.network}{after}, {written.card.embedding_dim} numbers per image, within "
            f"{written.difference:.1e} of the network",
            path=str(path),
            step=given.step,
            form=form,
            difference=written.difference,
        )


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "unknown" if value is None else str(value)
