"""Embeddings of a folder of images, as a file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.data.temporary import written_whole
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.counted import counted
from octoscale.evaluate.embedding import embed, evaluating
from octoscale.evaluate.protocols.images import images_below
from octoscale.evaluate.protocols.stored import StoredImages

SUFFIXES = (".npz", ".parquet")


def embed_folder(
    network: nn.Module,
    directory: str,
    world: World,
    *,
    storage: StorageConfig = DEFAULT,
    resolution: int | None = None,
    flip: bool = False,
    batch_size: int = 128,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[str], NDArray[np.float32]]:
    """Embed every image of a folder and of the folders in it.

    Args:
        network: uint8 [n, 3, size, size] -> embeddings [n, dim], on `world.device`.
        directory: a local path or URL of aligned crops of one size.
        storage: how it is reached.
        resolution: they are degraded to it; None: they are as they are.
        flip: see `octoscale.evaluate.embedding.embed`.
        progress: told how many images of how many have gone through the network.

    Returns:
        The images' paths below `directory`, sorted, and float32 [n, dim].

    Raises:
        OctoscaleError: no images, one is damaged, they are of different sizes, or an embedding is not finite.
    """
    store = Store(directory, storage)
    names = images_below(store)
    if not names:
        raise OctoscaleError(f"{directory} holds no images (JPEG, PNG or WebP); give a folder of aligned crops")
    images = StoredImages(names, store)
    if resolution is not None and resolution > images.shape[-1]:
        raise OctoscaleError(f"--resolution is {resolution} px, but the images have {images.shape[-1]} px")
    with evaluating(network), counted(network, len(names) * (2 if flip else 1), progress):
        rows = torch.arange(len(names))
        embeddings = embed(network, images, rows, world, resolution=resolution, flip=flip, batch_size=batch_size)
    broken = (~embeddings.isfinite().all(1)).nonzero().ravel().tolist()
    if broken:
        raise OctoscaleError(
            f"{len(broken):,} of {len(names):,} embeddings are not finite, the first that of {names[broken[0]]}: the "
            "network gives NaN or infinity; look for damaged weights"
        )
    return names, embeddings.numpy()


def check_output(path: Path) -> None:
    """Before the work: what `write_embeddings` could not write is found out now.

    Raises:
        OctoscaleError: another suffix, or a package is missing.
    """
    if path.suffix not in SUFFIXES:
        raise OctoscaleError(f"{path} is no file of embeddings; give a name that ends in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise OctoscaleError(
                f"{path} needs a package that is not installed: pip install octoscale[parquet]"
            ) from error


def write_embeddings(path: Path, names: Sequence[str], embeddings: NDArray[np.float32]) -> None:
    """Write names and embeddings as ``.npz`` (`names`, `embeddings`) or ``.parquet`` (columns name, embedding).

    Raises:
        OctoscaleError: see `check_output`; or it cannot be written, and what was there stays.
    """
    check_output(path)
    if path.suffix == ".npz":
        with written_whole(path) as file:
            np.savez(file, names=np.array(names), embeddings=embeddings)
        return
    import pyarrow
    import pyarrow.parquet

    flat = pyarrow.array(embeddings.ravel())
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    try:
        table = pyarrow.table({"name": list(names), "embedding": vectors})
    except UnicodeEncodeError as error:
        raise OctoscaleError(f"{path} cannot hold the name {error.object!a}, which is not UTF-8; write .npz") from error
    with written_whole(path) as file:
        pyarrow.parquet.write_table(table, file)
