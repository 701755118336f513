"""Which protocol is read by what."""

from collections.abc import Callable

from torch import Tensor

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.evaluate.config import DataSet
from octoscale.evaluate.protocols.agedb import read_agedb
from octoscale.evaluate.protocols.calfw import read_calfw
from octoscale.evaluate.protocols.cfp import read_cfp
from octoscale.evaluate.protocols.images import find_images, load_images, stack
from octoscale.evaluate.protocols.lfw import read_lfw
from octoscale.evaluate.protocols.pack import read_pack, unpacked
from octoscale.evaluate.protocols.pairs import Pairs
from octoscale.evaluate.protocols.sllfw import read_sllfw
from octoscale.evaluate.protocols.table import read_table

# All that name files in a folder; a pack ("bin") holds its images itself.
_LISTS: dict[str, Callable[[str, StorageConfig], Pairs]] = {
    "lfw": read_lfw,
    "xqlfw": read_lfw,
    "calfw": read_calfw,
    "cplfw": read_calfw,
    "sllfw": read_sllfw,
    "agedb_30": read_agedb,
    "cfp_ff": lambda path, storage: read_cfp(path, "FF", storage),
    "cfp_fp": lambda path, storage: read_cfp(path, "FP", storage),
    "csv": read_table,
}


def load_pairs(data: DataSet, storage: StorageConfig = DEFAULT) -> tuple[Pairs, Tensor]:
    """The pairs of a data set, and their m distinct images, uint8 [m, 3, size, size].

    Args:
        storage: how both are reached.

    Raises:
        OctoscaleError: a file is missing or malformed.
    """
    if data.protocol == "bin":
        return read_pack(data.pairs, storage)
    pairs = _LISTS[data.protocol](data.pairs, storage)
    assert data.images is not None
    return pairs, load_images(pairs, data.images, storage)


def first_image(data: DataSet, storage: StorageConfig = DEFAULT) -> Tensor:
    """The first image of a data set, uint8 [1, 3, size, size]; its list is read and all images are looked for.

    None of the others is decoded, so this costs little before a long evaluation of several sets.

    Raises:
        OctoscaleError: a file is missing or malformed, but for the other images' contents.
    """
    if data.protocol == "bin":
        images, _ = unpacked(data.pairs, storage)
        return stack(["image 0"], images[:1], data.pairs)
    assert data.images is not None
    store, paths = find_images(_LISTS[data.protocol](data.pairs, storage), data.images, storage)
    return stack(paths[:1], [store.read(paths[0])], data.images)
