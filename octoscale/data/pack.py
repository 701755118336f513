"""Pack an image folder into WebDataset shards and an index, once, before training."""

import json
import re
import tarfile
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import webdataset
from numpy.typing import NDArray

from octoscale.data.decode import decode_image, image_format
from octoscale.data.importers.folder import ImageFolder
from octoscale.data.index import ARRAYS, KEYS_NAME, MANIFEST_NAME, Manifest, Shard, array_name, file_sha256
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

RUN_LENGTH = 8
REPORT_NAME = "report.json"
_OWN_NAMES = re.compile(r"manifest\.json|report\.json|shards/shard-\d+\.tar|index/\w+\.(npy|txt)")
_TAR_BLOCK_BYTES = 512

# progress(stage, images done, images in all); stage is "verify" or "write".
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Excluded:
    """Something of the source that is not in the data set: a file, or an identity (its key), and why."""

    name: str
    cause: str


@dataclass(frozen=True)
class PackReport:
    """What was packed, and everything that was not. Also written as ``report.json``."""

    fingerprint: str
    images: int
    identities: int
    image_size: int
    shards: int
    size_bytes: int
    excluded_images: tuple[Excluded, ...]
    excluded_identities: tuple[Excluded, ...]


@dataclass
class _Verified:
    """The good images, one row per sample id."""

    image_size: int | None
    keys: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=lambda: array("i"))
    crc32: "array[int]" = field(default_factory=lambda: array("I"))
    identity_offsets: list[int] = field(default_factory=lambda: [0])
    excluded_images: list[Excluded] = field(default_factory=list)
    excluded_identities: list[Excluded] = field(default_factory=list)


def pack(
    source_url: str,
    destination_url: str,
    *,
    shard_bytes: int = 64 * 2**20,
    image_size: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PackReport:
    """Pack the image folder at `source_url` into a data set at `destination_url`.

    Every image is decoded before it is accepted and keeps its original bytes. The manifest is
    written last: a packing that stops in between removes what it wrote.

    Args:
        shard_bytes: about the size of one shard.
        image_size: height and width that every image must have, in pixels; None takes the first good image's.
        seed: of the order of the images in the shards.
        overwrite: replace the data set at the destination.
        progress: called after each identity.

    Returns:
        The report: counts, and every excluded image and identity with its cause. Identities
        with fewer than two good images are excluded, for no pair can be drawn from them.

    Raises:
        OctoscaleError: an unusable source or destination, or no identity with two good images.
    """
    destination = Store(destination_url)
    old_names = _check_destination(Store(source_url), destination, overwrite)
    source = ImageFolder(source_url)
    verified = _verify(source, image_size, progress or _silent)
    written: list[str] = []
    committed = False
    try:
        for name in sorted(old_names, key=lambda name: name != MANIFEST_NAME):  # The manifest goes first.
            destination.delete(name)
        report = _write(source, destination, verified, shard_bytes, seed, progress or _silent, written)
        committed = True
    finally:
        if not committed:
            for name in written:
                destination.delete(name)
    return report


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _check_destination(source: Store, destination: Store, overwrite: bool) -> list[str]:
    """Refuse to mix with what is there. Returns the names of an older data set, to be replaced."""
    if source.is_local and destination.is_local:
        inside = destination.local_path().resolve().is_relative_to(source.local_path().resolve())
    else:
        inside = f"{destination.url.rstrip('/')}/".startswith(f"{source.url.rstrip('/')}/")
    if inside:
        raise OctoscaleError(f"the destination {destination.url} is inside the source {source.url}; choose another")
    destination.probe_writable()
    # The layout is fixed, so only its own places are listed: the bucket may hold much else.
    found = [*destination.list("shards"), *destination.list("index")]
    found += [name for name in (MANIFEST_NAME, REPORT_NAME) if destination.exists(name)]
    old_names = [name for name in found if _OWN_NAMES.fullmatch(name)]
    if old_names and not overwrite:
        what = "a packed data set" if MANIFEST_NAME in old_names else "a part of one, from an interrupted packing"
        raise OctoscaleError(f"{destination.url} already holds {what}; pack elsewhere, or overwrite it (--overwrite)")
    return old_names


def _verify(source: ImageFolder, image_size: int | None, progress: Progress) -> _Verified:
    """First pass: read and decode everything, keep sizes and checksums of the good images."""
    verified = _Verified(image_size)
    verified.excluded_images += [Excluded(name, cause) for name, cause in source.ignored]
    total = sum(len(identity.names) for identity in source.identities)
    done = 0
    for identity in source.identities:
        good: list[tuple[str, int, int]] = []
        for name, data in zip(identity.names, source.read(identity.names), strict=True):
            cause, size = _examine(data, verified.image_size)
            if cause:
                verified.excluded_images.append(Excluded(name, cause))
            else:
                verified.image_size = size
                good.append((name, len(data), zlib.crc32(data)))
        if len(good) >= 2:
            verified.keys.append(identity.key)
            for name, size_bytes, crc32 in good:
                verified.names.append(name)
                verified.sizes.append(size_bytes)
                verified.crc32.append(crc32)
            verified.identity_offsets.append(len(verified.names))
        else:
            cause = f"{len(good)} good of {len(identity.names)} images; an identity needs 2"
            verified.excluded_identities.append(Excluded(identity.key, cause))
        done += len(identity.names)
        progress("verify", done, total)
    if not verified.keys:
        first = (verified.excluded_images or verified.excluded_identities)[0]
        raise OctoscaleError(
            f"none of the {len(source.identities)} identities has two good images, so there is nothing to pack; "
            f"the first cause: {first.name}: {first.cause}"
        )
    return verified


def _examine(data: bytes, image_size: int | None) -> tuple[str, int]:
    """Why this image cannot be used ("" if it can), and its size in pixels."""
    try:
        height, width, _ = decode_image(data).shape
    except OctoscaleError as error:
        return str(error), 0
    if height != width:
        return f"{width}×{height} pixels; images must be square", 0
    if image_size is not None and width != image_size:
        return f"{width}×{height} pixels; this data set has {image_size}×{image_size}", 0
    return "", width


def _runs(identity_offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Cut each identity into runs of 8 rows; a shorter last run joins the one before."""
    for start, end in pairwise(identity_offsets):
        cuts = [start + RUN_LENGTH * i for i in range(max(1, (end - start) // RUN_LENGTH))]
        yield from zip(cuts, [*cuts[1:], end], strict=True)


def _assign_shards(verified: _Verified, shard_bytes: int, seed: int) -> list[list[int]]:
    """The rows of each shard: runs in random order, so that any few shards hold many identities."""
    runs = list(_runs(verified.identity_offsets))
    shards: list[list[int]] = [[]]
    filled = 0
    for run in np.random.default_rng(seed).permutation(len(runs)):
        rows = range(*runs[run])
        # Header and padded content of the image, header and one block of its label.
        size = sum(_TAR_BLOCK_BYTES * (3 - (-verified.sizes[row] // _TAR_BLOCK_BYTES)) for row in rows)
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].extend(rows)
        filled += size
    return shards


def _write(
    source: ImageFolder,
    destination: Store,
    verified: _Verified,
    shard_bytes: int,
    seed: int,
    progress: Progress,
    written: list[str],
) -> PackReport:
    """Second pass: shards, index, report, and the manifest last. Appends each name to `written` before it exists."""
    count = len(verified.names)
    arrays: dict[str, NDArray[np.generic]] = {
        "shard_ids": np.zeros(count, np.int32),
        "offsets": np.zeros(count, np.int64),
        "sizes": np.array(verified.sizes, np.int32),
        "crc32": np.array(verified.crc32, np.uint32),
        "identity_offsets": np.array(verified.identity_offsets, np.int64),
    }
    identities = np.repeat(np.arange(len(verified.keys)), np.diff(verified.identity_offsets))
    shards: list[Shard] = []
    done = 0
    with tempfile.TemporaryDirectory(prefix="octoscale-pack-") as temporary:

        def put(path: Path, name: str) -> None:
            written.append(name)
            destination.upload(path, name)

        local = Path(temporary, "file")
        for shard_id, rows in enumerate(_assign_shards(verified, shard_bytes, seed)):
            _write_shard(local, source, verified, rows, identities)
            arrays["shard_ids"][rows] = shard_id
            arrays["offsets"][rows] = _read_offsets(local, verified, rows)
            name = f"shards/shard-{shard_id:06d}.tar"
            shards.append(Shard(name=name, size_bytes=local.stat().st_size, sha256=file_sha256(local)))
            put(local, name)
            done += len(rows)
            progress("write", done, count)

        index_sha256 = {}
        for field_name, dtype in ARRAYS.items():
            assert arrays[field_name].dtype == dtype
            with local.open("wb") as file:
                np.save(file, arrays[field_name])
            index_sha256[array_name(field_name)] = file_sha256(local)
            put(local, array_name(field_name))
        local.write_bytes("".join(f"{key}\n" for key in verified.keys).encode())
        index_sha256[KEYS_NAME] = file_sha256(local)
        put(local, KEYS_NAME)

    assert verified.image_size is not None
    manifest = Manifest.create(
        image_size=verified.image_size,
        images=count,
        identities=len(verified.keys),
        shards=tuple(shards),
        index_sha256=index_sha256,
    )
    report = PackReport(
        fingerprint=manifest.fingerprint,
        images=count,
        identities=len(verified.keys),
        image_size=verified.image_size,
        shards=len(shards),
        size_bytes=sum(shard.size_bytes for shard in shards),
        excluded_images=tuple(verified.excluded_images),
        excluded_identities=tuple(verified.excluded_identities),
    )
    written += [REPORT_NAME, MANIFEST_NAME]
    destination.write(REPORT_NAME, (json.dumps(asdict(report), indent=1) + "\n").encode())
    destination.write(MANIFEST_NAME, manifest.dump())
    return report


def _write_shard(
    path: Path, source: ImageFolder, verified: _Verified, rows: list[int], identities: NDArray[np.int64]
) -> None:
    # mtime 0: the same images give the same bytes, today and tomorrow.
    with path.open("wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0) as tar:
        for start in range(0, len(rows), RUN_LENGTH):
            part = rows[start : start + RUN_LENGTH]
            for row, data in zip(part, source.read([verified.names[row] for row in part]), strict=True):
                if zlib.crc32(data) != verified.crc32[row]:
                    raise OctoscaleError(f"{verified.names[row]} changed while it was packed; pack again")
                suffix = image_format(data)
                assert suffix is not None
                tar.write({"__key__": f"{row:09d}", suffix: data, "cls": str(identities[row]).encode()})


def _read_offsets(path: Path, verified: _Verified, rows: list[int]) -> list[int]:
    """Where each row's image begins in the shard, by reading the shard back."""
    offsets = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, suffix = member.name.split(".")
            if suffix != "cls":
                assert member.size == verified.sizes[int(key)]
                offsets[int(key)] = member.offset_data
    return [offsets[row] for row in rows]
