"""The image folder: ``SOURCE/IDENTITY/IMAGE.{jpg,jpeg,png,webp}``, on any URL; LFW's tree is one."""

from pathlib import PurePosixPath

import numpy as np

from octoscale.data.importers.source import IMAGE_SUFFIXES, Excluded, FileSource
from octoscale.data.names import Names, is_line
from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError

_LAYOUT = "expected SOURCE/IDENTITY/IMAGE.jpg (or .jpeg, .png, .webp)"


def open_folder(url: str, names: list[str] | None = None, storage: StorageConfig = DEFAULT) -> FileSource:
    """The images of a folder of one folder per identity, sorted by identity key, then by name.

    Ignored are all files that are not an image of an identity, hidden files apart.

    Args:
        names: what the folder holds, if somebody has listed it already.

    Raises:
        OctoscaleError: no such folder, nothing in it, or images without identity folders.
    """
    store = Store(url, storage)
    names = store.list() if names is None else names
    if not names:
        if not store.exists():
            raise OctoscaleError(f"there is no folder {url}; {_LAYOUT}")
        raise OctoscaleError(f"the folder {url} is empty; {_LAYOUT}")
    ignored: list[Excluded] = []
    images: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if any(part.startswith(".") for part in path.parts):
            continue
        cause = _why_not(path)
        if cause:
            ignored.append(Excluded(name, cause))
        else:
            images.setdefault(path.parts[0], []).append(name)
    if not images:
        first, cause = (ignored[0].name, ignored[0].cause) if ignored else (names[0], "hidden")
        raise OctoscaleError(f"{url} holds no identity folders with images: {first} is {cause}; {_LAYOUT}")
    keys = sorted(images)
    for key in keys:
        if not is_line(key):
            raise OctoscaleError(f"the identity folder {key!r} in {url} is not one line of UTF-8; rename it")
    return FileSource(
        store,
        Names(name for key in keys for name in images[key]),
        np.repeat(np.arange(len(keys)), [len(images[key]) for key in keys]),
        keys,
        url=url,
        ignored=ignored,
    )


def _why_not(path: PurePosixPath) -> str:
    """Why this file is not an image of an identity; "" if it is one."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return f"not an image file ({', '.join(IMAGE_SUFFIXES)})"
    if len(path.parts) == 1:
        return "not in an identity folder"
    if len(path.parts) > 2:
        return "in a folder inside an identity folder"
    # A line break or undecodable bytes in a folder's name are told as an error of the folder.
    if not is_line(path.name):
        return "named with a line break or in another encoding than UTF-8"
    return ""
