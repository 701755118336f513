"""A small writer of RecordIO, from the description of the format."""

import struct
from collections.abc import Sequence
from pathlib import Path

MAGIC = struct.pack("<I", 0xCED7230A)


def frame(kind: int, content: bytes) -> bytes:
    padding = b"\0" * (-len(content) % 4)
    return MAGIC + struct.pack("<I", kind << 29 | len(content)) + content + padding


def record(content: bytes) -> bytes:
    """One frame, or several where an aligned word of the content is the magic number."""
    cuts = [at for at in range(0, len(content) - 3, 4) if content[at : at + 4] == MAGIC]
    if not cuts:
        return frame(0, content)
    starts, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]
    parts = [content[start:end] for start, end in zip(starts, ends, strict=True)]
    kinds = [1, *[2] * (len(parts) - 2), 3]
    return b"".join(frame(kind, part) for kind, part in zip(kinds, parts, strict=True))


def payload(labels: float | Sequence[float], image: bytes = b"", number: int = 0) -> bytes:
    """Header, an array of labels if there is one, image."""
    if isinstance(labels, int | float):
        return struct.pack("<IfQQ", 0, labels, number, 0) + image
    return struct.pack("<IfQQ", len(labels), 0, number, 0) + struct.pack(f"<{len(labels)}f", *labels) + image


def write_records(folder: Path, contents: Sequence[bytes], *, index: bool = True, name: str = "train") -> Path:
    """Write NAME.rec and NAME.idx; the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, data = [], b""
    for key, content in enumerate(contents):
        lines.append(f"{key}\t{len(data)}\n")
        data += record(content)
    (folder / f"{name}.rec").write_bytes(data)
    if index:
        (folder / f"{name}.idx").write_text("".join(lines))
    return folder / f"{name}.rec"


def write_insightface(folder: Path, people: Sequence[Sequence[bytes]], *, index: bool = True) -> Path:
    """As insightface does: a header, the images with their labels, then a record per identity with its range."""
    images = [payload(float(label), image) for label, some in enumerate(people) for image in some]
    ranges, first = [], 1
    for some in people:
        ranges.append(payload([float(first), float(first + len(some))]))
        first += len(some)
    header = payload([float(len(images) + 1), float(len(images) + 1 + len(ranges))])
    return write_records(folder, [header, *images, *ranges], index=index)
