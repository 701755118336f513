"""WebDataset's samples in a tar that others wrote: an image, and who is on it."""

import json
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from octoscale.data.decode import decode_image
from octoscale.data.importers.source import IMAGE_SUFFIXES, Excluded
from octoscale.data.importers.tar import Member, TarReader
from octoscale.data.index import Shard
from octoscale.data.names import is_line
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

# The library's rule: everything up to the first dot of the file's name is the sample's key.
_KEY_AND_SUFFIX = re.compile(r"((?:.*/|)[^./][^.]*)\.([^/]*)")
_MAX_LABEL_BYTES = 2**20
_MAX_KEY_LENGTH = 1000


@dataclass(frozen=True)
class ScanShard:
    """A shard to be read; `label_field` names a field of each sample's .json, None takes its .cls."""

    store: Store
    name: str
    label_field: str | None


@dataclass
class ShardSamples:
    """What a shard holds, a row per sample with an image and a label.

    Attributes:
        labels: rows of `keys`, the identities in the order of appearance.
        names: ``SHARD/MEMBER`` of each image, as lines.
        sizes, widths, heights: 0 where the image is bad; `causes` says why.
        excluded: what is no sample.
    """

    shard: Shard | None = None
    keys: list[str] = field(default_factory=list)
    labels: "array[int]" = field(default_factory=lambda: array("i"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("i"))
    crc32: "array[int]" = field(default_factory=lambda: array("I"))
    widths: "array[int]" = field(default_factory=lambda: array("i"))
    heights: "array[int]" = field(default_factory=lambda: array("i"))
    names: bytearray = field(default_factory=bytearray)
    causes: dict[int, str] = field(default_factory=dict)
    excluded: list[Excluded] = field(default_factory=list)

    def column(self, name: str) -> NDArray[np.int64]:
        """One of the arrays as int64."""
        return np.array(getattr(self, name), np.int64)


def scan_shard(task: ScanShard) -> ShardSamples:
    """Read a shard once and decode every image.

    Raises:
        OctoscaleError: the tar is compressed, damaged or hostile.
    """
    reader = TarReader(task.store, task.name)
    found = ShardSamples()
    label_of: dict[str, int] = {}
    for key, members in _samples(reader.members(), task.name, found.excluded):
        name = f"{task.name}/{key}"
        try:
            image, identity = _image_and_identity(members, task.label_field)
        except OctoscaleError as error:
            found.excluded.append(Excluded(name, str(error)))
            continue
        assert image.data is not None
        row, size, width, height = len(found.labels), len(image.data), 0, 0
        try:
            height, width, _ = decode_image(image.data).shape
        except OctoscaleError as error:
            found.causes[row], size = str(error), 0
        found.labels.append(label_of.setdefault(identity, len(label_of)))
        found.names += f"{task.name}/{image.name}\n".encode()
        for column, value in (
            (found.offsets, image.offset), (found.sizes, size), (found.crc32, zlib.crc32(image.data)),
            (found.widths, width), (found.heights, height),
        ):  # fmt: skip
            column.append(value)
    found.keys = list(label_of)
    size_bytes, sha256 = reader.finish()
    found.shard = Shard(name=task.name, size_bytes=size_bytes, sha256=sha256)
    return found


def _samples(
    members: Iterable[Member], shard: str, excluded: list[Excluded]
) -> Iterator[tuple[str, dict[str, Member | None]]]:
    """(key, members by suffix); a suffix that comes twice has None. Members of one sample stand together."""
    current: str | None = None
    sample: dict[str, Member | None] = {}
    for member in members:
        match = _KEY_AND_SUFFIX.fullmatch(member.name)
        if match is None:
            excluded.append(Excluded(f"{shard}/{member.name}", "its name is not KEY.SUFFIX"))
            continue
        key, suffix = match[1], match[2].lower()
        if key != current:
            if current is not None:
                yield current, sample
            current, sample = key, {}
        sample[suffix] = None if suffix in sample else member
    if current is not None:
        yield current, sample


def _image_and_identity(sample: dict[str, Member | None], label_field: str | None) -> tuple[Member, str]:
    """The image of a sample, and its identity key."""
    suffixes = [suffix for suffix in sample if f".{suffix}" in IMAGE_SUFFIXES]
    if len(suffixes) != 1:
        raise OctoscaleError("no image (.jpg, .jpeg, .png, .webp)" if not suffixes else "more than one image")
    image = sample[suffixes[0]]
    if image is None or image.data is None:
        raise OctoscaleError("its image is there twice, or is not a plain file below 64 MiB")
    suffix = "json" if label_field is not None else "cls"
    label = sample.get(suffix)
    if label is None or label.data is None or len(label.data) > _MAX_LABEL_BYTES:
        hint = "; name a field of its .json with --label-field" if suffix == "cls" and "json" in sample else ""
        raise OctoscaleError(f"no .{suffix}, or not one plain file below 1 MiB{hint}")
    key = _text(label.data) if label_field is None else _field(label.data, label_field)
    if not key or len(key) > _MAX_KEY_LENGTH or not is_line(key):
        raise OctoscaleError(f"its identity {key[:50]!r} is not one line of text")
    return image, key


def _text(data: bytes) -> str:
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise OctoscaleError("its .cls is not UTF-8 text") from error


def _field(data: bytes, name: str) -> str:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OctoscaleError(f"its .json is not readable: {type(error).__name__}") from error
    value = document.get(name) if isinstance(document, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise OctoscaleError(f"its .json has no text or whole number in {name!r}")
    try:
        return str(value).strip()
    except ValueError as error:  # A number of thousands of digits.
        raise OctoscaleError(f"its .json has no text or whole number in {name!r}") from error
