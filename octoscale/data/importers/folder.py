"""The image folder: ``SOURCE/IDENTITY/IMAGE.{jpg,jpeg,png,webp}``, on any URL."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_LAYOUT = "expected SOURCE/IDENTITY/IMAGE.jpg (or .jpeg, .png, .webp)"


@dataclass(frozen=True)
class SourceIdentity:
    """One person of a source: its key, and the sorted names of its images relative to the source's URL."""

    key: str
    names: tuple[str, ...]


class ImageFolder:
    """A folder of one folder per identity.

    Attributes:
        identities: sorted by key.
        ignored: (name, cause) of every file that is not an image of an identity, hidden files apart.

    Raises:
        OctoscaleError: no such folder, nothing in it, or images without identity folders.
    """

    def __init__(self, url: str) -> None:
        self._store = Store(url)
        self.ignored: list[tuple[str, str]] = []
        self.identities = self._find()

    def read(self, names: Sequence[str]) -> list[bytes]:
        """The bytes of these images, in order."""
        return self._store.read_many(names)

    def _find(self) -> list[SourceIdentity]:
        url = self._store.url
        names = self._store.list()
        if not names:
            if not self._store.exists():
                raise OctoscaleError(f"there is no folder {url}; {_LAYOUT}")
            raise OctoscaleError(f"the folder {url} is empty; {_LAYOUT}")
        images: dict[str, list[str]] = {}
        for name in names:
            path = PurePosixPath(name)
            if any(part.startswith(".") for part in path.parts):
                continue
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                self.ignored.append((name, f"not an image file ({', '.join(IMAGE_SUFFIXES)})"))
            elif len(path.parts) == 1:
                self.ignored.append((name, "not in an identity folder"))
            elif len(path.parts) > 2:
                self.ignored.append((name, "in a folder inside an identity folder"))
            else:
                images.setdefault(path.parts[0], []).append(name)
        if not images:
            first, cause = self.ignored[0] if self.ignored else (names[0], "hidden")
            raise OctoscaleError(f"{url} holds no identity folders with images: {first} is {cause}; {_LAYOUT}")
        for key in images:
            # One key per line of the index, in UTF-8; undecodable file names arrive as lone surrogates.
            if "\n" in key or any("\ud800" <= character <= "\udfff" for character in key):
                raise OctoscaleError(f"the identity folder {key!r} in {url} is not one line of UTF-8; rename it")
        return [SourceIdentity(key, tuple(images[key])) for key in sorted(images)]
