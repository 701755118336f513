"""IJB-B's and IJB-C's 1:1 protocol, in the text files that come with insightface's release of them.

``ijbc_face_tid_mid.txt`` has a line ``IMAGE TEMPLATE MEDIA`` per face, ``ijbc_template_pair_label.txt`` a line
``TEMPLATE TEMPLATE LABEL`` per pair (1 genuine, 0 impostor), and ``ijbc_name_5pts_score.txt``, in the order of the
first, a line ``IMAGE x1 y1 … x5 y5 SCORE``: five landmarks in the loose crop and the detector's score. For IJB-B they
begin with ``ijbb``. NIST's own CSV files are another form and are not read.
"""

import io
import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import without_suffix
from octoscale.evaluate.protocols.text import read_lines

# A number of a template or medium, at most: what int64 holds.
_DIGITS = 18
# As strict as needed to find the line that makes a list unreadable.
_PAIR = re.compile(rf"\s*\d{{1,{_DIGITS}}}\s+\d{{1,{_DIGITS}}}\s+[01]\s*", re.ASCII)


@dataclass(frozen=True)
class Templates:
    """m images in t templates, each of several media (photos, videos), and n pairs of templates."""

    images: tuple[str, ...]  # [m] without a suffix; an image may come up in several templates
    media: NDArray[np.int64]  # [m] 0 … number of media: each medium of each template has its own
    template: NDArray[np.int64]  # [media] 0 … t − 1
    first: NDArray[np.int64]  # [n] templates
    second: NDArray[np.int64]  # [n]
    same: NDArray[np.bool_]  # [n]
    landmarks: NDArray[np.float64] | None  # [m, 5, 2]
    scores: NDArray[np.float64] | None  # [m] the detector's

    @property
    def count(self) -> int:
        """t."""
        return int(self.template.max()) + 1


def read_ijb(folder: str, name: Literal["ijbb", "ijbc"], storage: StorageConfig = DEFAULT) -> Templates:
    """Read the protocol.

    Args:
        folder: ``meta``, a local path or URL. The file of landmarks may be absent.
        storage: how it is reached.

    Raises:
        OctoscaleError: a file cannot be read, or a line is malformed; a pair of templates without images; pairs of one
            kind alone.
    """
    folder = folder.rstrip("/")
    path = f"{folder}/{name}_face_tid_mid.txt"
    rows = [
        _read_face(line, f"line {number} of {path}") for number, line in enumerate(read_lines(path, storage), start=1)
    ]
    if not rows:
        raise OctoscaleError(f"{path} lists no images")
    images, templates, media = zip(*rows, strict=True)
    numbers, template_of = np.unique(np.array(templates), return_inverse=True)
    # A medium in two templates is pooled in each: [2, media] ─▶ one row per template and medium
    (template, _), medium_of = np.unique(np.stack([template_of, np.array(media)]), axis=1, return_inverse=True)
    first, second, same = _read_pairs(f"{folder}/{name}_template_pair_label.txt", storage)
    for side in (first, second):
        unknown = np.setdiff1d(side, numbers)
        if len(unknown):
            raise OctoscaleError(f"{folder}: template {unknown[0]} is in a pair, but {path} has no image of it")
    landmarks, scores = _read_landmarks(folder, f"{name}_name_5pts_score.txt", images, storage)
    return Templates(
        images, medium_of.ravel().astype(np.int64), template.astype(np.int64),
        np.searchsorted(numbers, first), np.searchsorted(numbers, second), same, landmarks, scores,
    )  # fmt: skip


def _read_face(line: str, where: str) -> tuple[str, int, int]:
    match line.split():
        case [image, template, media] if all(text.isdecimal() and len(text) <= _DIGITS for text in (template, media)):
            return without_suffix(image), int(template), int(media)
    raise OctoscaleError(f"{where} is {line!r}; expected 'IMAGE TEMPLATE MEDIA'")


def _read_pairs(path: str, storage: StorageConfig) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    lines = read_lines(path, storage)  # 16 million in IJB-C
    if not lines:
        raise OctoscaleError(f"{path} lists no pairs of templates")
    try:
        pairs = np.loadtxt(io.StringIO("\n".join(lines)), dtype=np.int64, ndmin=2, comments=None)
        # It skips empty lines.
        whole = pairs.shape == (len(lines), 3) and bool(((pairs[:, 2] == 0) | (pairs[:, 2] == 1)).all())
    except ValueError:
        whole = False
    if not whole:
        number = next(number for number, line in enumerate(lines) if not _PAIR.fullmatch(line))
        raise OctoscaleError(
            f"line {number + 1} of {path} is {lines[number]!r}; expected 'TEMPLATE TEMPLATE LABEL', the label 1 or 0"
        )
    same = pairs[:, 2] == 1
    if same.all() or not same.any():
        raise OctoscaleError(
            f"{path} lists {np.count_nonzero(same)} genuine and {np.count_nonzero(~same)} impostor pairs: verification "
            "needs both kinds"
        )
    return pairs[:, 0], pairs[:, 1], same


def _read_landmarks(
    folder: str, name: str, images: tuple[str, ...], storage: StorageConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | tuple[None, None]:
    if not Store(folder, storage).exists(name):
        return None, None
    numbers = []
    lines = read_lines(f"{folder}/{name}", storage)
    for number, (line, image) in enumerate(zip(lines, images, strict=False), start=1):
        listed, *fields = line.split() or [""]
        try:
            values = [float(field) for field in fields]
        except ValueError:
            values = []
        if without_suffix(listed) != image or len(values) != 11 or not all(map(math.isfinite, values)):
            raise OctoscaleError(
                f"line {number} of {folder}/{name} is {line!r}; expected {image}, ten numbers and a score"
            )
        numbers.append(values)
    if len(lines) != len(images):
        raise OctoscaleError(f"{folder}/{name} has {len(lines):,} lines for {len(images):,} images")
    table = np.array(numbers)
    return table[:, :10].reshape(-1, 5, 2), table[:, 10]
