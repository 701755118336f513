"""MXNet's RecordIO files as bytes: frames, records, insightface's payloads. No MXNet, nothing unpickled.

A record is a frame, or several: magic number and length word (little-endian), content, zeros up to a multiple of 4. The
upper three bits of the length word say whether the frame is a whole record (0) or the first (1), a middle (2) or the
last part (3) of one; between two parts the content held the magic number itself, which was taken out.

The content is a header ``<IfQQ`` (flag, label, two ids), then `flag` float32 labels if flag > 0, then the image.
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from octoscale.errors import OctoscaleError

MAGIC = 0xCED7230A
MAX_RECORD_BYTES = 64 * 2**20
_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_BLOCK_BYTES = 16 * 2**20
_LINES_PER_BLOCK = 2**20


@dataclass(frozen=True)
class Record:
    """The content of a record: float32 labels [n ≥ 1], and an image's bytes (none in records that only describe)."""

    labels: NDArray[np.float32]
    image: bytes


def _frame(data: bytes, position: int, where: str) -> tuple[int, int]:
    """(kind, length) of the frame whose first bytes are at `position`."""
    if len(data) - position < _FRAME.size:
        raise OctoscaleError(f"{where}: the file ends in the middle of a record; it is truncated, copy it again")
    magic, word = _FRAME.unpack_from(data, position)
    if magic != MAGIC:
        raise OctoscaleError(
            f"{where}: {magic:#010x} instead of the magic number {MAGIC:#010x}; not a RecordIO file, a damaged one, "
            "or the .idx of another"
        )
    kind, length = word >> 29, word & 0x1FFFFFFF
    if kind > _LAST or length > MAX_RECORD_BYTES:
        raise OctoscaleError(f"{where}: a frame of kind {kind} and {length:,} bytes; the file is damaged")
    return kind, length


def _padded(length: int) -> int:
    return -(-length // 4) * 4


def read_record(data: bytes, position: int, where: str) -> bytes:
    """The content of the record that begins at `position` of `data`, its parts joined.

    Raises:
        OctoscaleError: no record is there, or it does not end within `data`.
    """
    parts: list[bytes] = []
    total = 0
    while True:
        kind, length = _frame(data, position, where)
        if (kind in (_WHOLE, _FIRST)) != (not parts):
            raise OctoscaleError(f"{where}: the parts of a record are not in order; the file is damaged")
        start, position = position + _FRAME.size, position + _FRAME.size + _padded(length)
        total += length + len(_MAGIC_BYTES)
        if total > MAX_RECORD_BYTES + len(_MAGIC_BYTES):
            raise OctoscaleError(f"{where}: a record of more than {MAX_RECORD_BYTES:,} bytes; the file is damaged")
        if start + length > len(data):
            raise OctoscaleError(
                f"{where}: the record ends beyond the file, or beyond the next record's start; the file is truncated, "
                "or its .idx is another one's: copy them again"
            )
        parts.append(data[start : start + length])
        if kind in (_WHOLE, _LAST):
            return _MAGIC_BYTES.join(parts)


def parse_record(content: bytes, where: str) -> Record:
    """Labels and image of a record's content.

    Raises:
        OctoscaleError: the content is shorter than its header says.
    """
    if len(content) < _HEADER.size:
        raise OctoscaleError(f"{where}: {len(content)} bytes are no image record; the file is damaged, or no images'")
    flag, label, _, _ = _HEADER.unpack_from(content)
    end = _HEADER.size + 4 * flag
    if end > len(content):
        raise OctoscaleError(f"{where}: {flag:,} labels in {len(content):,} bytes; the file is damaged")
    labels = np.frombuffer(content, "<f4", flag, _HEADER.size) if flag else np.array([label], np.float32)
    return Record(labels.astype(np.float32), content[end:])


def scan(read_range: Callable[[int, int], bytes], size: int, where: str) -> NDArray[np.int64]:
    """int64 [records]: first byte of every record, found by walking over the whole file in large reads.

    Args:
        read_range: bytes ``[start, end)`` of the file.
        size: of the file in bytes.

    Raises:
        OctoscaleError: damaged or truncated.
    """
    return np.fromiter(_walk(read_range, size, where), np.int64)


def _walk(read_range: Callable[[int, int], bytes], size: int, where: str) -> Iterator[int]:
    block, block_start, position, inside = b"", 0, 0, False
    while position < size:
        if position - block_start + _FRAME.size > len(block):
            block_start, block = position, read_range(position, min(position + _BLOCK_BYTES, size))
        there = f"byte {position} of {where}"
        kind, length = _frame(block, position - block_start, there)
        if (kind in (_WHOLE, _FIRST)) == inside:
            raise OctoscaleError(f"{there}: the parts of a record are not in order; the file is damaged")
        if not inside:
            yield position
        inside = kind in (_FIRST, _MIDDLE)
        position += _FRAME.size + length
        if position > size:
            raise OctoscaleError(f"{there}: the file ends in the middle of a record; it is truncated, copy it again")
        position = min(_padded(position), size)
    if inside:
        raise OctoscaleError(f"the end of {where}: the last record has no end; it is truncated, copy it again")


def parse_index(data: bytes, size: int, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and first bytes, int64 [records] each, sorted by key, of an ``.idx`` file: ``KEY<tab>OFFSET`` lines.

    Args:
        size: of the ``.rec`` in bytes.

    Raises:
        OctoscaleError: not such lines, offsets beyond the file, or a key or an offset twice.
    """
    lines = io.BytesIO(data)
    blocks = [np.empty((0, 2), np.int64)]
    try:
        while lines.tell() < len(data):
            block = [line.split() for line in islice(lines, _LINES_PER_BLOCK) if line.strip()]
            if any(len(fields) != 2 for fields in block):
                raise ValueError("a line has not two fields")
            blocks.append(np.array([list(map(int, fields)) for fields in block], np.int64).reshape(-1, 2))
    except (ValueError, OverflowError) as error:
        raise OctoscaleError(
            f"{where} is not an index of KEY<tab>OFFSET lines ({error}); delete it to do without"
        ) from (error)
    table = np.concatenate(blocks)
    table = table[np.argsort(table[:, 0], kind="stable")]
    keys, offsets = table[:, 0], table[:, 1]
    if not len(table) or offsets.min() < 0 or offsets.max() >= size:
        raise OctoscaleError(f"{where} is empty or leads beyond the {size:,} bytes of its .rec; is it another one's?")
    if len(np.unique(keys)) != len(keys) or len(np.unique(offsets)) != len(offsets):
        raise OctoscaleError(f"{where} holds a key or an offset twice; delete it to do without")
    return keys, offsets
