"""Paths that others wrote into lists and tables, as names below a root folder."""

import posixpath

from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError


def name_below(root: Store, path: str, where: str) -> str:
    """The name, relative to `root`, of a path of a list: relative to the root, or absolute and inside it.

    Args:
        where: the line it stands on, for messages.

    Raises:
        OctoscaleError: the path leads out of the root.
    """
    name = path
    if path.startswith("/"):
        # Only a local root can hold an absolute path.
        folder = f"{posixpath.normpath(root.local_path().as_posix()).rstrip('/')}/" if root.is_local else None
        plain = posixpath.normpath(path)
        if folder is None or not plain.startswith(folder):
            raise OctoscaleError(f"{where}: the path {path!r} is not below {root.url}; give its folder with --root")
        name = plain.removeprefix(folder).lstrip("/")
    name = posixpath.normpath(name)
    if name in ("", ".", "..") or name.startswith("../") or "\0" in name:
        raise OctoscaleError(f"{where}: the path {path!r} leads out of {root.url}; give the right folder with --root")
    return name


def store_and_name(url: str, storage: StorageConfig = DEFAULT) -> tuple[Store, str]:
    """The folder of a file's URL, reached by `storage`, and its name there."""
    folder, slash, name = url.rpartition("/")
    return Store(folder or (slash or "."), storage), name
