"""Commands that apply a network to images: embed, verify."""

import math
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from octoscale.cli.console import Json, Quiet, answer, make_file_writable, out, output_of
from octoscale.cli.runs import NETWORK_HELP, Overrides
from octoscale.errors import OctoscaleError

Network = Annotated[
    str,
    typer.Option(
        "--network",
        help=NETWORK_HELP,
        show_default=False,
    ),
]
Best = Annotated[bool, typer.Option("--best", help="A run's best commit instead of its newest.")]
Flip = Annotated[bool, typer.Option("--flip", help="Add the mirror image's embedding.")]


def embed(
    images: Annotated[str, typer.Argument(help="Folder of aligned crops, a path or URL.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="File to write: .npz or .parquet.", show_default=False)],
    network: Network,
    overrides: Overrides = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Degrade the images to it, px.")] = None,
    flip: Flip = False,
    best: Best = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 128,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Embed all images of a folder."""
    from octoscale.distributed.world import World, default_device
    from octoscale.evaluate.export import check_output, embed_folder, write_embeddings
    from octoscale.given import given_network
    from octoscale.telemetry.progress import stages

    check_output(output)
    make_file_writable(output, "OUTPUT")
    found = given_network(network, overrides or (), best=best, data=[images])
    device = default_device(0)
    told = output_of(quiet=quiet, as_json=as_json)
    with stages(told) as show:
        names, embeddings = embed_folder(
            found.network.to(device), images, World(device=device), storage=found.storage,
            resolution=resolution, flip=flip, batch_size=batch_size, progress=partial(show, "embed"),
        )  # fmt: skip
    write_embeddings(output, names, embeddings)
    count, dim = embeddings.shape
    text = f"wrote {count:,} embeddings of {dim} numbers to {output}"
    answer(told, "embedded", text, path=str(output), images=count, embedding_dim=dim, step=found.step)


def verify(
    first: Annotated[Path, typer.Argument(help="An aligned crop.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another, of the same size.", show_default=False)],
    network: Network,
    overrides: Overrides = None,
    threshold: Annotated[
        float | None, typer.Option(help="Cosine similarity from which on it is one person; else the run's own.")
    ] = None,
    best: Best = False,
    as_json: Json = False,
) -> None:
    """Do two images show one person? Cosine similarity, threshold and decision."""
    import torch

    from octoscale.distributed.world import World, default_device
    from octoscale.evaluate.decision import threshold_of
    from octoscale.evaluate.embedding import embed as embed_images
    from octoscale.evaluate.embedding import evaluating
    from octoscale.evaluate.protocols.images import stack
    from octoscale.evaluate.verification import cosine_distances
    from octoscale.given import given_network

    if threshold is not None and not -1 <= threshold <= 1:
        raise OctoscaleError(f"--threshold is {threshold}, and a cosine similarity is within −1…1: give one of these")
    pixels = stack([str(first), str(second)], [_read(first), _read(second)], "the arguments")
    given = given_network(network, overrides or (), best=best)
    if given.run is None and threshold is None:
        raise OctoscaleError(f"{network} is a file, which has no threshold; give --threshold")
    found = None
    if threshold is None and given.run is not None:
        found = threshold_of(given.run, given.step or 0, given.storage)
    device = default_device(0)
    with evaluating(given.network.to(device)):
        both = embed_images(
            given.network, pixels, torch.arange(2), World(device=device), flip=found is not None and found.flip
        )
    similarity = 1 - float(cosine_distances(both[:1], both[1:]))
    if not math.isfinite(similarity):
        raise OctoscaleError(f"{network} gives NaN or infinite embeddings for these images; look for damaged weights")
    limit = threshold if found is None else found.similarity
    same = None if limit is None else similarity >= limit
    if as_json:
        values = {"similarity": similarity, "threshold": limit, "same": same, "step": given.step}
        output_of(as_json=True).event("verified", **values)
        return
    source = f" ({found.protocol}, {found.resolution} px: {found.accuracy:.2%} right)" if found else ""
    decisions = {
        True: "the same person",
        False: "different persons",
        None: f"none: {given.run} has no evaluation of step {given.step} with a threshold; give --threshold",
    }
    out.print(f"cosine similarity  {similarity:.4f}", markup=False)
    if limit is not None:
        out.print(f"threshold          {limit:.4f}{source}", markup=False, soft_wrap=True)
    out.print(f"decision           {decisions[same]}", markup=False, soft_wrap=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OctoscaleError(f"cannot read {path}: {error.strerror}") from error
