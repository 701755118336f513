"""Where every image of a packed data set is: memory-mapped arrays and a small manifest."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from octoscale.data.index_check import identities_fault, lines_fault, ranges_fault
from octoscale.data.names import Names
from octoscale.errors import OctoscaleError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
KEYS_NAME = "index/identity_keys.txt"
SAMPLE_NAMES_NAME = "index/sample_names.txt"
ARRAYS: dict[str, type[np.generic]] = {
    "shard_ids": np.int32,
    "offsets": np.int64,
    "sizes": np.int32,
    "crc32": np.uint32,
    "identity_offsets": np.int64,
}


def array_name(field: str) -> str:
    """The name of an index array's file, relative to the data set."""
    return f"index/{field}.npy"


# All files of an index but the manifest.
INDEX_NAMES = (*map(array_name, ARRAYS), KEYS_NAME, SAMPLE_NAMES_NAME)


def shard_name_fault(name: str) -> str:
    """Why this cannot be a shard's name relative to the data set; "" if it can.

    A manifest may come from anywhere: a name never leads out of the data set's folder, nor to the index's own files.
    """
    if len(name) > 1024 or not name.endswith(".tar"):
        return "is not a name that ends in .tar"
    if "\\" in name or not name.isprintable():
        return "holds a backslash or control characters"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "does not lead straight into the data set's folder"
    return ""


class Shard(BaseModel):
    """One tar file of the data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    size_bytes: int = Field(ge=0)
    sha256: str

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        fault = shard_name_fault(name)
        if fault:
            raise ValueError(f"the shard name {name!r} {fault}")
        return name


class Manifest(BaseModel):
    """``manifest.json``: what the data set is; written last, so its presence means the data set is whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: int
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    image_size: int = Field(gt=0)
    images: int = Field(gt=0)
    identities: int = Field(gt=0)
    shards: tuple[Shard, ...]
    # sha256 of every file under index/.
    index_sha256: dict[Annotated[str, Field(pattern=r"^index/[a-z0-9_]+\.(npy|txt)$")], str]

    @classmethod
    def create(cls, **fields: Any) -> "Manifest":
        """The manifest of `fields`, with the fingerprint that follows from them."""
        blank = cls(schema_version=SCHEMA_VERSION, fingerprint="0" * 64, **fields)
        return blank.model_copy(update={"fingerprint": blank.digest()})

    @classmethod
    def parse(cls, data: bytes, where: str) -> "Manifest":
        """Read and check ``manifest.json``.

        Raises:
            OctoscaleError: damaged, or written by another version of the format.
        """
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise OctoscaleError(f"{where}/{MANIFEST_NAME} is damaged ({error}); pack the data set again") from error
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if version != SCHEMA_VERSION:
            raise OctoscaleError(
                f"{where} has data set format {version!r}, this octoscale reads {SCHEMA_VERSION}; "
                "pack it again with `octoscale pack`, or install the octoscale that packed it"
            )
        try:
            manifest = cls.model_validate(fields)
        except ValidationError as error:
            raise OctoscaleError(f"{where}/{MANIFEST_NAME} is damaged ({error}); pack the data set again") from error
        if manifest.fingerprint != manifest.digest():
            raise OctoscaleError(f"{where}/{MANIFEST_NAME} was changed after packing; pack the data set again")
        return manifest

    def digest(self) -> str:
        """sha256 over everything but the fingerprint itself: content, order and layout of the data set."""
        fields = self.model_dump(exclude={"fingerprint"})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def dump(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()


def read_manifest(read: Callable[[str], bytes], exists: Callable[[str], bool], where: str) -> Manifest:
    """The manifest of the data set at `where`, through a store's `read` and `exists`.

    Raises:
        OctoscaleError: there is no manifest (not a packed data set), or it is not usable.
    """
    if not exists(MANIFEST_NAME):
        raise OctoscaleError(
            f"{where} is not a packed data set (it has no {MANIFEST_NAME}); "
            f"make one from images with `octoscale pack SOURCE {where}`, or from shards with `octoscale index`"
        )
    return Manifest.parse(read(MANIFEST_NAME), where)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Index:
    """The index of a packed data set. A sample id is a row, from 0; rows are sorted by identity.

    Attributes:
        directory: the local folder of the data set.
        shard_ids: int32 [n], rows of ``manifest.shards``.
        offsets: int64 [n], first byte of the image in its shard.
        sizes: int32 [n], bytes of the image.
        crc32: uint32 [n], of the image's bytes.
        identity_offsets: int64 [identities + 1]; identity i has the rows
            ``identity_offsets[i]`` up to ``identity_offsets[i + 1]``.
    """

    directory: Path
    manifest: Manifest
    shard_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    crc32: NDArray[np.uint32]
    identity_offsets: NDArray[np.int64]

    @classmethod
    def load(cls, directory: str | Path, *, verify: bool = True) -> "Index":
        """Memory-map the index in the local folder `directory`; `verify` compares its files with the manifest
        and looks whether their values can be true.

        Raises:
            OctoscaleError: not a packed data set, another format version, or damaged files.
        """
        directory = Path(directory)
        manifest = read_manifest(
            lambda name: (directory / name).read_bytes(), lambda name: (directory / name).is_file(), str(directory)
        )
        if verify:
            for name, sha256 in manifest.index_sha256.items():
                path = directory / name
                if not path.is_file() or file_sha256(path) != sha256:
                    raise OctoscaleError(
                        f"{path} is {'damaged' if path.is_file() else 'missing'}; pack the data set again, "
                        "or delete this copy of it to download it again"
                    )
        index = cls(directory, manifest, **{field: _map(directory, field, manifest) for field in ARRAYS})
        if verify and (fault := index._fault()):
            raise OctoscaleError(f"the index in {directory} cannot be true: {fault}; pack the data set again")
        return index

    def _fault(self) -> str:
        shard_bytes = np.array([shard.size_bytes for shard in self.manifest.shards], np.int64)
        return (
            identities_fault(self.identity_offsets, self.manifest.images)
            or ranges_fault(shard_bytes, self.shard_ids, self.offsets, self.sizes)
            or lines_fault(self.directory / KEYS_NAME, self.manifest.identities)
            or (
                lines_fault(self.directory / SAMPLE_NAMES_NAME, self.manifest.images)
                if SAMPLE_NAMES_NAME in self.manifest.index_sha256
                else ""
            )
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled memory map would carry the whole array to each worker; it maps the same file instead.
        return _reload, (self.directory,)

    def __len__(self) -> int:
        return self.manifest.images

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @property
    def image_size(self) -> int:
        """Height and width of every image, in pixels."""
        return self.manifest.image_size

    @property
    def identity_count(self) -> int:
        return self.manifest.identities

    @property
    def images_per_identity(self) -> NDArray[np.int64]:
        """int64 [identities]."""
        return np.diff(self.identity_offsets)

    @cached_property
    def identity_keys(self) -> list[str]:
        """The source's name of every identity."""
        return (self.directory / KEYS_NAME).read_bytes().decode().split("\n")[:-1]

    @cached_property
    def _sample_names(self) -> Names | None:
        if SAMPLE_NAMES_NAME not in self.manifest.index_sha256:
            return None  # A data set packed before they were kept.
        return Names.parse((self.directory / SAMPLE_NAMES_NAME).read_bytes())

    def sample_name(self, sample_id: int) -> str:
        """What the source called an image; ``KEY #k``, the k-th image of its identity, if the index does not say."""
        if self._sample_names is not None:
            return self._sample_names[sample_id]
        identity = int(self.identity_of(np.array(sample_id)))
        return f"{self.identity_keys[identity]} #{sample_id - int(self.identity_offsets[identity]) + 1}"

    def identity_of(self, sample_ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """The identity number of each sample id; any shape."""
        return np.searchsorted(self.identity_offsets, sample_ids, side="right") - 1


def _map(directory: Path, field: str, manifest: Manifest) -> NDArray[Any]:
    """An array of the index, mapped. A checksum says that it is the manifest's, not that it is an index."""
    rows = manifest.identities + 1 if field == "identity_offsets" else manifest.images
    path = directory / array_name(field)
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise OctoscaleError(f"{path} is not a readable array ({error}); pack the data set again") from error
    if array.dtype != ARRAYS[field] or array.shape != (rows,):
        raise OctoscaleError(
            f"{path} holds {array.dtype} {list(array.shape)}, not {np.dtype(ARRAYS[field])} [{rows}]; "
            "pack the data set again"
        )
    return array


def _reload(directory: Path) -> Index:
    return Index.load(directory, verify=False)
