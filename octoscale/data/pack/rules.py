"""Which of the good images make the data set, and which part of it."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from octoscale.data.importers.source import Excluded
from octoscale.data.pack.exclusions import Exclusions
from octoscale.data.pack.verified import Verified
from octoscale.errors import OctoscaleError

TRAIN = "train"
_PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NUMBERED = re.compile(r"(.+) #([1-9][0-9]{0,8})")


class Catalogue(Protocol):
    """What the rules need to know of a source; see `Source`."""

    @property
    def url(self) -> str: ...
    @property
    def ignored(self) -> list[Excluded]: ...
    def name(self, entry: int) -> str: ...
    def key(self, label: int) -> str: ...


@dataclass(frozen=True)
class Rules:
    """What of a source becomes a data set.

    Attributes:
        aligned: crop every image by its landmarks (`octoscale.data.align`).
        min_images: an identity with fewer good images is left out; at least 2, for no pair can be drawn from one.
        exclusions: left out by wish.
        held_out: name and share of a part of the identities, which becomes a data set of its own beside ``train``.
    """

    aligned: bool = False
    min_images: int = 2
    exclusions: Exclusions = field(default_factory=Exclusions)
    held_out: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        if self.min_images < 2:
            raise OctoscaleError(f"min_images is {self.min_images}; it must be 2 or more, for pairs are drawn")
        if self.held_out is not None:
            name, share = self.held_out
            if not _PART_NAME.fullmatch(name) or name in (TRAIN, "shards", "index", "packing"):
                raise OctoscaleError(f"the held-out part is named {name!r}; use letters and digits, such as validation")
            if not 0 < share < 1:
                raise OctoscaleError(f"the held-out share is {share}; it must be between 0 and 1")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the data sets below the destination; "" is the destination itself."""
        return ("",) if self.held_out is None else (TRAIN, self.held_out[0])

    def as_settings(self) -> dict[str, Any]:
        """For the comparison of a resumed packing with the interrupted one."""
        digest = hashlib.sha256(repr(self.exclusions).encode()).hexdigest()
        return {"align": self.aligned, "min_images": self.min_images, "exclusions": digest, "split": self.held_out}


def parse_split(text: str) -> tuple[str, float]:
    """Name and share of a held-out part: ``validation=0.01``."""
    name, equals, share = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, float(share)
    except ValueError as error:
        raise OctoscaleError(f"the split {text!r} is not NAME=SHARE, such as validation=0.01") from error


@dataclass(frozen=True)
class Selection:
    """The rows of one data set, sorted by identity; the arrays have a value per row.

    Attributes:
        part: its name below the destination; "" is the destination itself.
        entries: int64 [n], of the source.
        identity_offsets: int64 [identities + 1].
    """

    part: str
    keys: list[str]
    identity_offsets: NDArray[np.int64]
    entries: NDArray[np.int64]
    sizes: NDArray[np.int32]
    crc32: NDArray[np.uint32]
    image_size: int


@dataclass(frozen=True)
class Chosen:
    """The selections of all parts, and what is in none of them."""

    selections: tuple[Selection, ...]
    excluded_images: list[Excluded]
    excluded_identities: list[Excluded]
    unknown_exclusions: tuple[str, ...]


def choose(source: Catalogue, verified: Verified, rules: Rules, image_size: int | None, seed: int) -> Chosen:
    """Apply the rules to what the first pass found.

    Args:
        image_size: height and width of all images, in pixels; None takes the first good image's.

    Raises:
        OctoscaleError: nothing is left, or nothing of the file of exclusions is known.
    """
    labels = verified.arrays["labels"].astype(np.int64)
    image_size, causes = _apply_image_size(verified, image_size)
    good = verified.arrays["sizes"] != 0
    good[list(causes)] = False
    images = [*source.ignored, *(Excluded(source.name(entry), causes[entry]) for entry in sorted(causes))]
    entries = np.flatnonzero(good)
    entries = entries[np.argsort(labels[entries], kind="stable")]
    # int64 [identities present]: all labels, with their entries in all.
    present, totals = np.unique(labels[labels >= 0], return_counts=True)
    found = _find_exclusions(source, rules.exclusions, present, labels, entries)
    images += [Excluded(source.name(entry), rules.exclusions.cause) for entry in found.entries]
    entries = entries[~np.isin(entries, found.entries)]
    counts = np.searchsorted(labels[entries], present, side="right") - np.searchsorted(labels[entries], present)
    identities: list[Excluded] = []
    kept = np.zeros(len(present), bool)
    for row, (label, count, total) in enumerate(zip(present.tolist(), counts.tolist(), totals.tolist(), strict=True)):
        if label in found.labels:
            identities.append(Excluded(source.key(label), rules.exclusions.cause))
        elif count < rules.min_images:
            cause = f"{count} good of {total} images; an identity needs {rules.min_images}"
            identities.append(Excluded(source.key(label), cause))
        else:
            kept[row] = True
    if not kept.any():
        first = [*images, *identities, Excluded(source.url, "empty")][0]
        needed = "two" if rules.min_images == 2 else str(rules.min_images)
        raise OctoscaleError(
            f"none of the {len(present)} identities has {needed} good images, so nothing is left; "
            f"the first cause: {first.name}: {first.cause}"
        )
    selections = []
    for part, mine in _parts(source, rules, present, seed):
        chosen = present[kept & mine]
        if not len(chosen):
            raise OctoscaleError(
                f"the split gives no identity to {part!r}: {kept.sum()} identities are too few for it; "
                "choose another share, or another seed"
            )
        rows = entries[np.isin(labels[entries], chosen)]
        selections.append(
            Selection(
                part=part,
                keys=[source.key(label) for label in chosen.tolist()],
                identity_offsets=np.append(0, np.cumsum(counts[kept & mine])).astype(np.int64),
                entries=rows,
                sizes=verified.arrays["sizes"][rows].astype(np.int32),
                crc32=verified.arrays["crc32"][rows].astype(np.uint32),
                image_size=image_size,
            )
        )
    return Chosen(tuple(selections), images, identities, found.unknown)


def _apply_image_size(verified: Verified, image_size: int | None) -> tuple[int, dict[int, str]]:
    """The data set's image size (0 if there is none), and every entry's cause, those of wrong sizes included."""
    widths, heights = verified.arrays["widths"].astype(np.int64), verified.arrays["heights"].astype(np.int64)
    good = verified.arrays["sizes"] != 0
    square = np.flatnonzero(good & (widths == heights))
    size = image_size if image_size is not None else int(widths[square[0]]) if len(square) else 0
    causes = dict(verified.causes)
    for entry in np.flatnonzero(good & ((widths != size) | (heights != size))).tolist():
        width, height = widths[entry], heights[entry]
        rule = "images must be square" if width != height else f"this data set has {size}×{size}"
        causes[entry] = f"{width}×{height} pixels; {rule}"
    return size, causes


def _parts(
    source: Catalogue, rules: Rules, labels: NDArray[np.int64], seed: int
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Which labels belong to each part: by a hash of the key, so that a person's side never depends on the others."""
    if rules.held_out is None:
        yield "", np.ones(len(labels), bool)
        return
    name, share = rules.held_out
    digests = [hashlib.sha256(f"{seed}:{source.key(label)}".encode()).digest()[:8] for label in labels.tolist()]
    held_out = np.array([int.from_bytes(digest, "big") / 2**64 < share for digest in digests], bool)
    yield TRAIN, ~held_out
    yield name, held_out


@dataclass(frozen=True)
class _Excluded:
    """Exclusions found in a source: labels, entries (int64, sorted), and the lines that fit nothing."""

    labels: frozenset[int] = frozenset()
    entries: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    unknown: tuple[str, ...] = ()


def _find_exclusions(
    source: Catalogue,
    exclusions: Exclusions,
    present: NDArray[np.int64],
    labels: NDArray[np.int64],
    entries: NDArray[np.int64],
) -> _Excluded:
    """Look names and keys up.

    Args:
        present: labels of all identities.
        labels: of all entries.
        entries: good ones, sorted by label.
    """
    if not (exclusions.identities or exclusions.images or exclusions.same_person):
        return _Excluded()
    label_of = {source.key(label): label for label in present.tolist()}
    identities = {label_of[key] for key in exclusions.identities if key in label_of}
    unknown = [key for key in exclusions.identities if key not in label_of]
    sorted_labels = labels[entries]
    for group in exclusions.same_person:
        unknown += [key for key in group if key not in label_of]
        members = [label_of[key] for key in group if key in label_of]
        # Ties go to the first key.
        keeper = max(members, key=lambda label: (int((sorted_labels == label).sum()), -label), default=None)
        identities |= {label for label in members if label != keeper}
    wanted = set(exclusions.images)
    entry_of = {name: entry for entry in entries.tolist() if (name := source.name(entry)) in wanted} if wanted else {}
    for image in wanted - entry_of.keys():
        numbered = _NUMBERED.fullmatch(image)
        if numbered and numbered[1] in label_of:
            first, end = np.searchsorted(sorted_labels, [label_of[numbered[1]], label_of[numbered[1]] + 1])
            if int(numbered[2]) <= end - first:
                entry_of[image] = int(entries[first + int(numbered[2]) - 1])
    unknown += [image for image in exclusions.images if image not in entry_of]
    if not identities and not entry_of and unknown:
        raise OctoscaleError(
            f"nothing is {exclusions.cause}: {source.url} has none of its {len(unknown)} names, such as "
            f"{unknown[0]!r}; give identity keys, one per line, or the noise ledger of this source"
        )
    return _Excluded(frozenset(identities), np.unique(np.array(list(entry_of.values()), np.int64)), tuple(unknown))
