"""Sets for 1:N identification: probes that are looked for in a gallery, which may hold distractors.

TinyFace's ``Testing_Set``: ``gallery_match_img_ID_pairs.mat`` (``gallery_set``, ``gallery_ids``) and
``probe_img_ID_pairs.mat`` (``probe_set``, ``probe_ids``) name the images of the folders ``Gallery_Match`` and
``Probe`` and whom they show; every image of ``Gallery_Distractor`` is somebody else.

Any other set is a table ``IMAGE, IDENTITY, ROLE`` with the roles gallery, probe and distractor (whose identity is left
empty, or is nobody's of the gallery and the probes), perhaps with a heading; commas, tabs or spaces divide it. A probe
whose identity is not in the gallery has no mate; TinyFace has none of these. An image that is listed twice counts once.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import images_below, without_suffix
from octoscale.evaluate.protocols.matlab import read_matlab
from octoscale.evaluate.protocols.text import fields_of, read_lines

DISTRACTOR = -1


@dataclass(frozen=True)
class Gallery:
    """m distinct images; g of them in the gallery, p of them probes."""

    images: tuple[str, ...]  # [m] without a suffix
    gallery: NDArray[np.int64]  # [g] rows of `images`
    gallery_identity: NDArray[np.int64]  # [g] DISTRACTOR for distractors
    probes: NDArray[np.int64]  # [p]
    probe_identity: NDArray[np.int64]  # [p]


class _Row(NamedTuple):
    """One image of a list."""

    image: str  # without a suffix
    identity: str  # may be empty for distractors
    role: str
    where: str  # for messages: "line 7 of roles.csv"

    @property
    def says(self) -> str:
        return f"{self.role} of {self.identity}" if self.identity else self.role


def read_tinyface(folder: str, images: str, storage: StorageConfig = DEFAULT) -> Gallery:
    """Read TinyFace's protocol.

    Args:
        folder: ``Testing_Set`` with the two ``.mat`` files, a local path or URL.
        images: the folder of ``Gallery_Match``, ``Probe`` and ``Gallery_Distractor``, as aligned crops.
        storage: how both are reached.

    Raises:
        OctoscaleError: a file cannot be read or is built differently; there are no distractors; an image is two things;
            no probe has a mate; SciPy is missing.
    """
    folder = folder.rstrip("/")
    rows: list[_Row] = [
        *_read_names(f"{folder}/gallery_match_img_ID_pairs.mat", "gallery", "Gallery_Match", storage),
        *_read_names(f"{folder}/probe_img_ID_pairs.mat", "probe", "Probe", storage),
    ]
    distractors = images_below(Store(images, storage), "Gallery_Distractor")
    if not distractors:
        raise OctoscaleError(f"{images} has no images in Gallery_Distractor; TinyFace's gallery takes them")
    where = f"{images}/Gallery_Distractor"
    return _collect([*rows, *(_Row(without_suffix(path), "", "distractor", where) for path in distractors)], folder)


def read_roles(path: str, storage: StorageConfig = DEFAULT) -> Gallery:
    """Read a table of images, identities and roles.

    Args:
        path: a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: the file cannot be read, a line is malformed, an image is two things, a distractor shows
            somebody of the gallery or the probes, or there is no gallery, no probe, or none with a mate.
    """
    rows: list[_Row] = []
    for number, line in enumerate(read_lines(path, storage), start=1):
        where = f"line {number} of {path}"
        fields = fields_of(line, where)
        if not fields:
            continue
        *names, role = fields
        match [*names, role.lower()]:
            case [image, identity, ("gallery" | "probe") as role] if image and identity:
                rows.append(_Row(without_suffix(image), identity, role, where))
            case [image, *identity, "distractor" as role] if image and len(identity) <= 1:
                rows.append(_Row(without_suffix(image), "".join(identity), role, where))
            case [_, _, "role" | "split" | "set" | "part"] if number == 1:
                pass  # a heading; any other word may be a mistyped role
            case _:
                raise OctoscaleError(
                    f"{where} is {line!r}; expected IMAGE, IDENTITY, and gallery, probe or distractor; or on line 1 a "
                    "heading, its third word role"
                )
    return _collect(rows, path)


def _read_names(path: str, kind: str, folder: str, storage: StorageConfig) -> list[_Row]:
    values = read_matlab(path, f"{kind}_set", f"{kind}_ids", storage=storage)
    names, identities = values[f"{kind}_set"].ravel(), values[f"{kind}_ids"].ravel()
    if len(names) != len(identities):
        raise OctoscaleError(f"{path} has {len(names)} images and {len(identities)} identities")
    rows = []
    for number, (name, identity) in enumerate(zip(names, identities, strict=True), start=1):
        text, value = _only(name), _only(identity)
        if not isinstance(text, str) or not text:
            raise OctoscaleError(f"entry {number} of {kind}_set in {path} is {text!r}; expected an image's name")
        if not isinstance(value, int | float) or not float(value).is_integer():
            raise OctoscaleError(f"entry {number} of {kind}_ids in {path} is {value!r}; expected a whole number")
        where = f"entry {number} of {kind}_set in {path}"
        rows.append(_Row(f"{folder}/{without_suffix(text)}", str(int(value)), kind, where))
    return rows


def _only(cell: Any) -> Any:
    """What is in a cell, an array of one value; None where it is not one."""
    values = np.asarray(cell).ravel()
    return (
        values[0].item() if len(values) == 1 and hasattr(values[0], "item") else values[0] if len(values) == 1 else None
    )


def _collect(rows: list[_Row], source: str) -> Gallery:
    images: dict[str, int] = {}
    identities: dict[str, int] = {}
    first: dict[str, _Row] = {}
    listed: dict[str, list[tuple[int, int]]] = {"gallery": [], "probe": []}
    for row in rows:
        before = first.setdefault(row.image, row)
        if (before.identity, before.role) != (row.identity, row.role):
            # A probe would find itself, and nobody can be two people.
            raise OctoscaleError(
                f"{row.where} has {row.image} as {row.says}, and {before.where} as {before.says}: an image has one "
                "role and shows one person; leave one of them out"
            )
        if before is not row:
            continue
        number = DISTRACTOR if row.role == "distractor" else identities.setdefault(row.identity, len(identities))
        part = listed["probe" if row.role == "probe" else "gallery"]
        part.append((images.setdefault(row.image, len(images)), number))
    for row in rows:
        if row.role == "distractor" and row.identity in identities:
            raise OctoscaleError(
                f"{row.where} has {row.image} as {row.says}, who is in the gallery or among the probes: a distractor "
                "is somebody else; make it gallery, or leave its identity empty"
            )
    for role, part in listed.items():
        if not part:
            raise OctoscaleError(f"{source} has no {role} image; identification takes a gallery and probes")
    gallery, probes = (np.array(part, np.int64).T for part in listed.values())
    if not np.isin(probes[1], gallery[1]).any():
        raise OctoscaleError(f"{source} has no probe that shows anybody of the gallery; compare the identities of both")
    return Gallery(tuple(images), gallery[0], gallery[1], probes[0], probes[1])
