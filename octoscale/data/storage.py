"""Objects under a URL: a local folder or an object store, one interface. The only importer of fsspec."""

import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from octoscale.errors import OctoscaleError

_EXTRAS = {"s3": "octoscale[s3]", "s3a": "octoscale[s3]", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
_LOCAL_SCHEMES = ("file://", "local://")
_TEMPORARY = re.compile(r"(^|/)\.[^/]+\.[0-9a-f]{32}\.partial$")


def _storage_errors() -> tuple[type[BaseException], ...]:
    """OSError and what the loaded object-store clients raise beside it (none of theirs derive from it)."""
    clients = {"botocore.exceptions": ("BotoCoreError", "ClientError"), "aiohttp": ("ClientError",)}
    loaded = ((sys.modules[module], names) for module, names in clients.items() if module in sys.modules)
    return (OSError, *(getattr(module, name) for module, names in loaded for name in names))


@dataclass(frozen=True)
class Store:
    """The objects under `url`. Names are relative to it and use ``/``.

    Only the URL is kept: the filesystem is opened when used, once per process, because s3fs
    clients do not survive a change of process. The S3 endpoint and credentials come from the
    usual AWS chain (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ``~/.aws``, …).

    Every method raises `OctoscaleError` for a missing object, a refused permission, an
    unreachable server, an unknown scheme or a missing package.
    """

    url: str

    @property
    def is_local(self) -> bool:
        return "://" not in self.url or self.url.startswith(_LOCAL_SCHEMES)

    def local_path(self, name: str = "") -> Path:
        """The path of `name` in a local store."""
        assert self.is_local, self.url
        root = self.url.split("://", 1)[-1]
        return Path(root).expanduser().absolute() / name

    def child(self, name: str) -> "Store":
        """The store of everything under ``name/``."""
        return Store(self._where(name))

    def read(self, name: str) -> bytes:
        with self._explained("read", name):
            if self.is_local:
                return self.local_path(name).read_bytes()
            filesystem, path = self._remote(name)
            return bytes(filesystem.cat_file(path))

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The objects of `names`, in order; fetched concurrently from an object store."""
        if self.is_local or not names:
            return [self.read(name) for name in names]
        with self._explained("read", f"{names[0]} … {names[-1]}"):
            filesystem, root = self._remote("")
            paths = [f"{root}/{name}" for name in names]
            contents = filesystem.cat(paths)
            return [bytes(contents[path]) for path in paths]

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes ``[start, end)`` of `name`; fewer where the object ends before."""
        with self._explained("read", name):
            if self.is_local:
                with self.local_path(name).open("rb") as file:
                    file.seek(start)
                    return file.read(end - start)
            filesystem, path = self._remote(name)
            return bytes(filesystem.cat_file(path, start=start, end=end))

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> None:
        """Write `data`; a reader sees all of it or none.

        Raises:
            FileExistsError: `exclusive` and `name` exists already (nothing is changed).
        """
        with self._explained("write", name):
            if self.is_local:
                with self._local_temporary(name, exclusive) as temporary:
                    temporary.write_bytes(data)
                return
            filesystem, path = self._remote(name)
            filesystem.pipe_file(path, data, mode="create" if exclusive else "overwrite")

    def upload(self, local_path: Path, name: str) -> None:
        """Copy a local file to `name`; a reader sees all of it or none."""
        with self._explained("write", name):
            if self.is_local:
                with self._local_temporary(name, exclusive=False) as temporary:
                    shutil.copyfile(local_path, temporary)
                return
            filesystem, path = self._remote(name)
            filesystem.put_file(str(local_path), path)

    def download(self, name: str, local_path: Path) -> None:
        """Copy `name` to a local file (not atomic: give a temporary path and rename it)."""
        with self._explained("read", name):
            if self.is_local:
                shutil.copyfile(self.local_path(name), local_path)
                return
            filesystem, path = self._remote(name)
            filesystem.get_file(path, str(local_path))

    def exists(self, name: str = "") -> bool:
        """Whether `name` is an object or a folder with objects."""
        return self._info(name) is not None

    def size(self, name: str) -> int:
        """The length of `name` in bytes."""
        info = self._info(name)
        if info is None:
            raise OctoscaleError(f"cannot read {self._where(name)}: there is no such file")
        return int(info["size"])

    def list(self, folder: str = "") -> list[str]:
        """Names of all objects under `folder`, at any depth, sorted; empty where there is no such folder.

        Always asks the store, never a cache. Names are relative to the URL of this store.
        """
        with self._explained("list", folder):
            if self.is_local:
                root = self.local_path()
                walk = os.walk(root / folder, followlinks=True, onerror=_raise_unless_missing)
                paths = (Path(parent, file).relative_to(root).as_posix() for parent, _, files in walk for file in files)
                return sorted(path for path in paths if not _TEMPORARY.search(path))
            filesystem, root_path = self._remote("")
            filesystem.invalidate_cache()
            folder_path = f"{root_path}/{folder}".rstrip("/")
            found = (path.removeprefix("/") for path in filesystem.find(folder_path))
            start = folder_path.removeprefix("/") + "/"
            # find() of an object's own name returns that object; a marker object ends in "/".
            inside = (path for path in found if path.startswith(start) and not path.endswith("/"))
            return sorted(path[len(root_path.removeprefix("/")) + 1 :] for path in inside)

    def delete(self, name: str) -> None:
        """Delete the object `name` and everything under ``name/``; nothing to delete is no error."""
        with self._explained("delete", name):
            if self.is_local:
                path = self.local_path(name)
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                return
            filesystem, root = self._remote("")
            inside = [f"{root}/{found}" for found in self.list(name)]
            if name and filesystem.isfile(f"{root}/{name}"):
                inside.append(f"{root}/{name}")
            if inside:
                filesystem.rm(inside)

    def probe_writable(self) -> None:
        """Write and delete a tiny object, so that a wrong URL fails before the work and not after it."""
        name = f".octoscale-probe-{uuid.uuid4().hex}"
        self.write(name, b"probe")
        self.delete(name)

    def _where(self, name: str) -> str:
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    def _remote(self, name: str) -> tuple[Any, str]:
        """The filesystem of this process (fsspec keeps one per process and thread) and the path of `name` in it."""
        scheme = self.url.split("://", 1)[0]
        try:
            filesystem, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            package = _EXTRAS.get(scheme)
            advice = f"pip install {package}" if package else str(error)
            raise OctoscaleError(f"{self.url} needs a package that is not installed: {advice}") from error
        except ValueError as error:
            raise OctoscaleError(
                f"cannot open {self.url}: the scheme {scheme!r} is not known; use a local path, s3:// or gs://"
            ) from error
        root = root.rstrip("/")
        return filesystem, f"{root}/{name}" if name else root

    def _info(self, name: str) -> dict[str, Any] | None:
        with self._explained("look at", name):
            try:
                if self.is_local:
                    return {"size": self.local_path(name).stat().st_size}
                filesystem, path = self._remote(name)
                filesystem.invalidate_cache()
                info: dict[str, Any] = filesystem.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return info

    @contextmanager
    def _local_temporary(self, name: str, exclusive: bool) -> Iterator[Path]:
        """A path to write to, which becomes `name` when the block ends well."""
        path = self.local_path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(f"{path.parent} is a file, not a folder") from error
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if exclusive:
                os.link(temporary, path)  # Unlike replace(), refuses an existing name, atomically.
            else:
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, action: str, name: str) -> Iterator[None]:
        """Turn the storage's failures into one sentence for the user."""
        where = self._where(name)
        try:
            yield
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            raise OctoscaleError(f"cannot {action} {where}: there is no such file, folder or bucket") from error
        except PermissionError as error:
            advice = "the permissions of the folder" if self.is_local else "the credentials and the bucket's policy"
            raise OctoscaleError(f"cannot {action} {where}: permission denied ({error}); check {advice}") from error
        except _storage_errors() as error:
            advice = "" if self.is_local else "; check the credentials, the network and AWS_ENDPOINT_URL"
            raise OctoscaleError(f"cannot {action} {where}: {error}{advice}") from error


def _raise_unless_missing(error: OSError) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        raise error
