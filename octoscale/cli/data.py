"""Commands of data sets: pack, index, inspect."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from octoscale.cli.console import (
    Json,
    Quiet,
    StorageSettings,
    answer,
    errors,
    make_writable,
    out,
    output_of,
    storage_from,
    tell,
)

if TYPE_CHECKING:
    from octoscale.data.pack import PackReport
    from octoscale.telemetry.output import Output

# Each command imports what it runs: `octoscale --help` answers at once.

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
ImageSize = Annotated[
    int | None,
    typer.Option(min=1, help="Pixels every image must have; by default the first image's.", show_default=False),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that read and decode; the result is the same.")]


def pack(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder IDENTITY/IMAGE, a list, a CSV or Parquet table, or a RecordIO file; a path or URL.",
            show_default=False,
        ),
    ],
    destination: Annotated[str, typer.Argument(help="Where the data set goes, a path or URL.", show_default=False)],
    form: Annotated[
        str | None,
        typer.Option("--format", help="folder, list, csv, parquet or recordio; by default what the name tells."),
    ] = None,
    root: Annotated[str | None, typer.Option(help="Folder of a list's paths; by default the list's own.")] = None,
    path_column: Annotated[str, typer.Option(help="A table's column of paths.")] = "path",
    identity_column: Annotated[str, typer.Option(help="A table's column of identities.")] = "identity",
    align: Annotated[
        bool, typer.Option("--align", help="Crop by five landmarks to 112 px, as JPEG of quality 95.")
    ] = False,
    min_images: Annotated[int, typer.Option(min=2, help="Leave identities with fewer good images out.")] = 2,
    exclude: Annotated[
        str | None, typer.Option(help="Leave out: a file of identities, or pairs.csv or samples.csv of `noise`.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Hold a share of the identities out: DST/train and DST/NAME.", metavar="NAME=SHARE"),
    ] = None,
    image_size: ImageSize = None,
    shard_mib: Annotated[int, typer.Option(min=1, help="About the size of one shard, in MiB.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the order of images in the shards, and of the split.")] = 0,
    workers: Workers = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted packing.")] = False,
    overwrite: Overwrite = False,
    storage: StorageSettings = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Pack images into WebDataset shards with an index."""
    from octoscale.data.importers.open import open_source
    from octoscale.data.importers.table import Columns
    from octoscale.data.pack import Rules
    from octoscale.data.pack import pack as pack_source
    from octoscale.data.pack.exclusions import Exclusions, read_exclusions
    from octoscale.data.pack.rules import parse_split
    from octoscale.telemetry.progress import stages

    reached = storage_from(storage, source, destination, root, exclude)
    rules = Rules(
        aligned=align,
        min_images=min_images,
        exclusions=Exclusions() if exclude is None else read_exclusions(exclude, reached),
        held_out=None if split is None else parse_split(split),
    )
    output = output_of(quiet=quiet, as_json=as_json)
    opened = open_source(source, form=form, root=root, columns=Columns(path_column, identity_column), storage=reached)
    try:
        with _sigterm_as_ctrl_c(), stages(output) as show:
            report = pack_source(
                opened, destination, rules=rules, shard_bytes=shard_mib * 2**20, image_size=image_size, seed=seed,
                overwrite=overwrite, resume=resume, workers=workers, storage=reached, progress=show,
            )  # fmt: skip
    except KeyboardInterrupt:
        tell("interrupted; the same command with --resume goes on")
        raise
    parts = {"": report} if report.held_out is None else {"/train": report, f"/{rules.parts[1]}": report.held_out}
    _tell_excluded(report, f"{destination.rstrip('/')}{next(iter(parts))}")
    for part, packed in parts.items():
        _answer_counts(output, "packed", packed, f"into {packed.shards} shards", f"{destination.rstrip('/')}{part}")


def index(
    url: Annotated[str, typer.Argument(help="A folder of WebDataset tars, a path or URL.", show_default=False)],
    label_field: Annotated[
        str | None, typer.Option(help="The identity is this field of each sample's .json, not its .cls.")
    ] = None,
    min_images: Annotated[int, typer.Option(min=2, help="Leave identities with fewer good images out.")] = 2,
    image_size: ImageSize = None,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    storage: StorageSettings = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make an index of WebDataset shards that are there, which stay as they are."""
    from octoscale.data.index_shards import index_shards
    from octoscale.telemetry.progress import stages

    output = output_of(quiet=quiet, as_json=as_json)
    with stages(output) as show:
        report = index_shards(
            url, label_field=label_field, min_images=min_images, image_size=image_size, overwrite=overwrite,
            workers=workers, storage=storage_from(storage, url), progress=show,
        )  # fmt: skip
    _tell_excluded(report, url.rstrip("/"))
    _answer_counts(output, "indexed", report, f"in {report.shards} shards", url)


def inspect(
    url: Annotated[str, typer.Argument(help="A packed data set, a path or URL.", show_default=False)],
    figures: Annotated[
        Path | None, typer.Option(help="Draw the histogram and a contact sheet of random people into this folder.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the contact sheet's people.")] = 0,
    storage: StorageSettings = None,
    as_json: Json = False,
) -> None:
    """Show what a data set holds: counts, images per identity, duplicates. A remote one is not copied."""
    from octoscale.data.inspection.duplicates import find_duplicates
    from octoscale.data.inspection.pictures import draw_contact_sheet, draw_histogram
    from octoscale.data.inspection.report import as_document, render
    from octoscale.data.inspection.view import open_view

    if figures is not None:
        make_writable(figures, "--figures")
    with open_view(url, storage_from(storage, url)) as view:
        duplicates = find_duplicates(view)
        if as_json:
            output_of(as_json=True).event("data_set", **json.loads(as_document(view, duplicates)))
        else:
            for piece in render(view, duplicates):
                # Plain lines, and no cut: a table would cut the fingerprint to the width of the terminal.
                out.print(piece, soft_wrap=isinstance(piece, str), markup=False)
        if figures is not None:
            (figures / "images_per_identity.png").write_bytes(draw_histogram(view.index))
            (figures / "contact_sheet.png").write_bytes(draw_contact_sheet(view, seed=seed))
            tell(f"drew {figures}/images_per_identity.png and contact_sheet.png")


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Schedulers end a job by SIGTERM, which alone would leave copies in the temporary folder."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        # None: a handler that Python did not set and cannot put back.
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _tell_excluded(report: "PackReport", where: str) -> None:
    for what, excluded in (("image", report.excluded_images), ("identity", report.excluded_identities)):
        for item in excluded[:5]:
            errors.print(f"[yellow]excluded {what}[/] {escape(f'{item.name}: {item.cause}')}", soft_wrap=True)
        if len(excluded) > 5:
            file = escape(f"{where}/report.json")
            errors.print(f"[yellow]… and {len(excluded) - 5} more[/]; all are in {file}", soft_wrap=True)
    if report.unknown_exclusions:
        names = escape(", ".join(report.unknown_exclusions[:5]))
        errors.print(f"[yellow]not in the source[/], of --exclude: {len(report.unknown_exclusions)}: {names}")


def _answer_counts(output: "Output", event: str, report: "PackReport", shards: str, where: str) -> None:
    answer(
        output,
        event,
        f"{event} {report.images:,} images of {report.identities:,} identities, {report.image_size} px, "
        f"{shards}, {report.size_bytes / 2**20:.1f} MiB, at {where}",
        url=where,
        images=report.images,
        identities=report.identities,
        image_size=report.image_size,
        shards=report.shards,
        bytes=report.size_bytes,
        fingerprint=report.fingerprint,
        excluded_images=len(report.excluded_images),
        excluded_identities=len(report.excluded_identities),
    )
