"""First pass: every image is read and decoded once; sizes and checksums are kept, not the images."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from octoscale.data.align import align, encode_jpeg
from octoscale.data.decode import decode_image
from octoscale.data.importers.source import Loaded, Request, Source
from octoscale.data.pack.report import Progress
from octoscale.data.pack.state import PackState
from octoscale.data.pack.verified import NO_IMAGE, Verified
from octoscale.data.workers import Workers
from octoscale.errors import OctoscaleError


@dataclass(frozen=True)
class _Check:
    request: Request
    aligned: bool


def prepare(loaded: Loaded, aligned: bool) -> tuple[bytes, int, int]:
    """The bytes that go into the data set, and their width and height: the original ones, or an aligned crop.

    Raises:
        OctoscaleError: not an image, or no landmarks to align it by.
    """
    if loaded.cause:
        raise OctoscaleError(loaded.cause)
    pixels = decode_image(loaded.data)
    if not aligned:
        return loaded.data, pixels.shape[1], pixels.shape[0]
    if loaded.landmarks is None:
        raise OctoscaleError("no landmarks to align it by")
    crop = align(pixels, loaded.landmarks)
    return encode_jpeg(crop), crop.shape[1], crop.shape[0]


def verify(source: Source, state: PackState, *, aligned: bool, workers: Workers, progress: Progress) -> Verified:
    """Decode every entry that `state` does not know yet, and let it know."""
    verified = Verified.blank(len(source))
    done = 0
    for part in state.verified_parts():
        verified.put(done, part)
        done += len(part)
    if done:
        progress("verify", done, len(source))
    saved = done

    def tasks() -> Iterator[_Check]:
        for entries in source.batches(done):
            yield _Check(source.request(entries), aligned)

    for part in workers.map(_check, tasks()):
        verified.put(done, part)
        done += len(part)
        if state.is_due(done - saved) or done == len(source):
            state.add_verified(saved, done, verified)
            saved = done
        progress("verify", done, len(source))
    return verified


def _check(task: _Check) -> Verified:
    entries = task.request.load()
    part = Verified.blank(len(entries))
    for row, loaded in enumerate(entries):
        if loaded is None:
            part.arrays["labels"][row] = NO_IMAGE
            continue
        part.arrays["labels"][row] = loaded.label
        try:
            data, width, height = prepare(loaded, task.aligned)
        except OctoscaleError as error:
            part.causes[row] = str(error)
            continue
        for name, value in (
            ("sizes", len(data)), ("crc32", zlib.crc32(data)), ("widths", width), ("heights", height),
        ):  # fmt: skip
            part.arrays[name][row] = value
    return part
