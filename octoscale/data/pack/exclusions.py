"""Who and what is left out of a data set by wish: a list of identities, or a ledger of `octoscale noise`."""

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, field

from octoscale.data.importers.paths import store_and_name
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError

_PAIR_COLUMNS = {"kind", "identity_a", "identity_b", "culprit"}
_SAMPLE_COLUMNS = {"image", "identity", "suggested_identity"}


@dataclass(frozen=True)
class Exclusions:
    """What to leave out.

    Attributes:
        cause: for the report.
        identities: keys.
        images: source names, or ``KEY #k`` for the k-th good image of an identity.
        same_person: groups of keys that are one person: the identity with the most images stays.
    """

    cause: str = ""
    identities: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    same_person: tuple[tuple[str, ...], ...] = field(default=())


def read_exclusions(url: str, storage: StorageConfig | None = None) -> Exclusions:
    """Read a file of one identity key per line, or ``pairs.csv`` or ``samples.csv`` of `octoscale noise`.

    Of ``pairs.csv`` a *misfiled image* is left out, and all but one of the identities that are the *same person*;
    look-alikes are left as they are. Of ``samples.csv`` every image is left out.

    Raises:
        OctoscaleError: the file cannot be read, or is a table of something else.
    """
    store, name = store_and_name(url, storage or StorageConfig())
    try:
        text = store.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OctoscaleError(f"the exclusions {url} are not UTF-8 text: {error}") from error
    cause = f"excluded by {name}"
    columns = set(next(csv.reader(text.splitlines()[:1]), []))
    if columns >= _PAIR_COLUMNS:
        return _of_pairs(_rows(text, url), cause)
    if columns >= _SAMPLE_COLUMNS:
        return Exclusions(cause, images=tuple(row["image"] for row in _rows(text, url)))
    keys = tuple(dict.fromkeys(line.rstrip("\r") for line in text.split("\n") if line.strip()))
    if not keys:
        raise OctoscaleError(f"the exclusions {url} are empty; give identity keys, one per line, or a noise ledger")
    return Exclusions(cause, identities=keys)


def _rows(text: str, url: str) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise OctoscaleError(f"the ledger {url} is not a readable CSV file: {error}") from error
    if any(None in row or None in row.values() for row in rows):
        raise OctoscaleError(f"the ledger {url} has rows with other columns than its first line; write it again")
    return rows


def _of_pairs(rows: list[dict[str, str]], cause: str) -> Exclusions:
    group_of: dict[str, str] = {}

    def first(key: str) -> str:
        while group_of.setdefault(key, key) != key:
            key = group_of[key]
        return key

    for row in rows:
        if row["kind"] == "same person":
            group_of[first(row["identity_b"])] = first(row["identity_a"])
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for key in sorted(group_of):
        groups[first(key)].append(key)
    images = tuple(row["culprit"] for row in rows if row["kind"] == "misfiled image")
    return Exclusions(cause, images=images, same_person=tuple(tuple(group) for group in groups.values()))
