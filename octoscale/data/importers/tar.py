"""Plain tar files read once, front to back, from any store."""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

_BLOCK_BYTES = 16 * 2**20
_TAR_BLOCK_BYTES = 512
# An image or a label is smaller; the bytes of anything else are not needed.
_MAX_MEMBER_BYTES = 64 * 2**20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Member:
    """A file in a tar: its name, where its bytes are, and its bytes (None for a link, a device or a huge file)."""

    name: str
    offset: int
    data: bytes | None


class TarReader:
    """The files of one plain tar, and then its size and checksum.

    Raises:
        OctoscaleError: compressed, damaged, truncated, or with a name that leads out of a folder.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._file = _SequentialFile(store, name)
        self._where = f"{store.url.rstrip('/')}/{name}"

    def members(self) -> Iterator[Member]:
        """Folders are left out."""
        start = self._file.read(6)
        for magic, kind in _COMPRESSED.items():
            if start.startswith(magic):
                raise OctoscaleError(
                    f"{self._where} is compressed ({kind}); images are read by offset, so decompress the shards first"
                )
        self._file.seek(0)
        try:
            # "r:" never looks for compression; nothing is ever extracted. Its annotation wants more than is read.
            with tarfile.open(fileobj=self._file, mode="r:") as tar:  # type: ignore[call-overload]
                for member in tar:
                    self._check(member)
                    if member.isdir():
                        continue
                    yield Member(member.name, member.offset_data, self._content(member))
                    tar.members = []  # A tarfile remembers them all.
                end = tar.offset
        except (tarfile.TarError, ValueError, RecursionError) as error:
            if isinstance(error, OctoscaleError):
                raise
            raise OctoscaleError(f"{self._where} is not a whole tar file: {error}; copy it again") from error
        # tarfile takes a damaged header for the end.
        self._file.seek(end)
        if self._file.read(_TAR_BLOCK_BYTES).strip(b"\0"):
            raise OctoscaleError(f"{self._where} is damaged: no header at byte {end}; copy it again")

    def finish(self) -> tuple[int, str]:
        """Size in bytes and sha256 of the whole file."""
        return self._file.size, self._file.finish()

    def _content(self, member: tarfile.TarInfo) -> bytes | None:
        if not member.isreg() or member.issparse() or member.size > _MAX_MEMBER_BYTES:
            return None
        position = self._file.tell()
        self._file.seek(member.offset_data)
        data = self._file.read(member.size)
        self._file.seek(position)
        if len(data) < member.size:
            raise OctoscaleError(f"{self._where} ends in the middle of {member.name}; copy it again")
        return data

    def _check(self, member: tarfile.TarInfo) -> None:
        name = member.name
        if member.size < 0:  # tarfile would go back, and around forever.
            raise OctoscaleError(f"{self._where} is damaged: {name} has {member.size} bytes; do not trust this file")
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or not name.isprintable():
            raise OctoscaleError(
                f"{self._where} holds a member named {name!r}, which leads out of its folder or is not plain text; "
                "do not trust this file"
            )


class _SequentialFile:
    """A file object over an object that is read in large blocks, each once; it can go back by one block."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.size = store.size(name)
        self._sha256 = hashlib.sha256()
        self._next = 0
        # By number: the last two blocks that were read.
        self._blocks: dict[int, bytes] = {}
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < 0:
            raise self._damaged()
        self._position = position
        return position

    def read(self, count: int) -> bytes:
        if not 0 <= count <= _MAX_MEMBER_BYTES + _TAR_BLOCK_BYTES:  # Only a wrong header asks for that.
            raise self._damaged()
        end = min(self._position + count, self.size)
        pieces = []
        while self._position < end:
            number, start = divmod(self._position, _BLOCK_BYTES)
            piece = self._block(number)[start : start + end - self._position]
            pieces.append(piece)
            self._position += len(piece)
        return b"".join(pieces)

    def finish(self) -> str:
        """sha256, after reading what is left."""
        if self.size:
            self._block((self.size - 1) // _BLOCK_BYTES)
        return self._sha256.hexdigest()

    def _block(self, number: int) -> bytes:
        while self._next <= number:
            start = self._next * _BLOCK_BYTES
            end = min(start + _BLOCK_BYTES, self.size)
            data = self._store.read_range(self._name, start, end)
            if len(data) != end - start:
                raise OctoscaleError(f"{self._store.url}/{self._name} became shorter while it was read; try again")
            self._sha256.update(data)
            self._blocks[self._next] = data
            self._blocks.pop(self._next - 2, None)
            self._next += 1
        if number not in self._blocks:
            raise self._damaged()
        return self._blocks[number]

    def _damaged(self) -> OctoscaleError:
        return OctoscaleError(f"{self._store.url}/{self._name} is damaged: its headers lead astray; copy it again")
