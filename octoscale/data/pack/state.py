"""What an interrupted packing has done, kept under ``packing/`` of the destination until the data set is whole."""

import io
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from octoscale.data.index import Shard
from octoscale.data.pack.verified import FIELDS, Verified
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

FOLDER = "packing"
_SETTINGS_NAME = "settings.json"
# A part of the first pass is kept after so many entries, or so much work.
PART_ENTRIES = 2**16
PART_SECONDS = 15.0
_OWN_NAMES = re.compile(
    r"settings\.json|verified-\d{12}-\d{12}\.npz|([A-Za-z0-9][A-Za-z0-9_-]*/)?shards/shard-\d{6,}\.tar\.json"
)


class PackState:
    """The state of one packing. Its files are whole or absent, and are only added to.

    ``settings.json`` says what is packed and how; ``verified-FIRST-END.npz`` holds the first pass's rows of the entries
    from FIRST up to END; ``NAME.json`` is there for every shard that is in the data set, with its checksum.
    """

    def __init__(self, destination: Store) -> None:
        self._store = destination.child(FOLDER)
        self._last_saved = time.monotonic()

    def exists(self) -> bool:
        return self._store.exists(_SETTINGS_NAME)

    def begin(self, settings: dict[str, Any], replaced: list[str]) -> None:
        """A new packing: what was there is gone. `replaced` are names of older parts that it takes the place of."""
        self.clear()
        self._write_settings({"settings": settings, "replaced": replaced, "fingerprints": {}})

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with a packing of something else.

        Raises:
            OctoscaleError: which settings differ.
        """
        before, now = self._read_settings()["settings"], json.loads(json.dumps(settings))
        changed = [key for key in sorted(now.keys() | before.keys()) if before.get(key) != now.get(key)]
        if changed:
            what = ", ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in changed)
            raise OctoscaleError(
                f"the packing to be resumed at {self._store.url} is another one: {what}; "
                "give the same source and options, or begin anew with --overwrite, without --resume"
            )

    @property
    def replaced(self) -> list[str]:
        return [str(part) for part in self._read_settings()["replaced"]]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the parts' manifests, once nothing but these is still to be written; empty before."""
        return dict(self._read_settings()["fingerprints"])

    def set_fingerprints(self, fingerprints: dict[str, str]) -> None:
        self._write_settings(self._read_settings() | {"fingerprints": fingerprints})

    def is_due(self, unsaved: int) -> bool:
        """Whether so many unsaved entries are worth a file."""
        return unsaved >= PART_ENTRIES or time.monotonic() - self._last_saved > PART_SECONDS

    def add_verified(self, start: int, end: int, verified: Verified) -> None:
        """Keep the rows of the entries ``[start, end)``."""
        part = verified.part(start, end)
        causes = np.frombuffer(json.dumps(list(part.causes.items())).encode(), np.uint8)
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {"causes": causes} | part.arrays
        np.savez(buffer, **arrays)
        self._store.write(f"verified-{start:012d}-{end:012d}.npz", buffer.getvalue())
        self._last_saved = time.monotonic()

    def verified_parts(self) -> Iterator[Verified]:
        """The kept parts from the first entry on, without a gap."""
        expected = 0
        for name in self._store.list():
            if not name.startswith("verified-"):
                continue
            try:
                start, end = map(int, name.removesuffix(".npz").split("-")[1:])
                with np.load(io.BytesIO(self._store.read(name)), allow_pickle=False) as file:
                    arrays = {field: file[field].astype(dtype, casting="safe") for field, dtype in FIELDS.items()}
                    causes = dict(json.loads(file["causes"].tobytes()))
            except (ValueError, KeyError, TypeError, OSError) as error:
                if isinstance(error, OctoscaleError):
                    raise
                raise self._damaged(name, error) from error
            if start != expected or any(array.shape != (end - start,) for array in arrays.values()):
                raise self._damaged(name, f"not the rows {expected} to {end}")
            expected = end
            yield Verified(arrays, causes)

    def add_shard(self, part: str, shard: Shard) -> None:
        """Keep that a shard of the data set `part` is written; called where it was written."""
        self._store.write(f"{_folder(part)}{shard.name}.json", shard.model_dump_json().encode())

    def shards(self, part: str) -> dict[str, Shard]:
        """The written shards of the data set `part`, by name."""
        names = [name for name in self._store.list(f"{_folder(part)}shards") if name.endswith(".tar.json")]
        try:
            shards = [Shard.model_validate_json(data) for data in self._store.read_many(names)]
        except ValueError as error:
            if isinstance(error, OctoscaleError):
                raise
            raise self._damaged("shards", error) from error
        return {shard.name: shard for shard in shards}

    def clear(self) -> None:
        """The packing is over."""
        # The settings go last, and verified rows from the end: what is left of an interrupted clearing is still a
        # packing's, without a gap.
        names = sorted(filter(_OWN_NAMES.fullmatch, self._store.list()), reverse=True)
        for name in sorted(names, key=lambda name: name == _SETTINGS_NAME):
            self._store.delete(name)
        if self._store.is_local and not self._store.list():
            self._store.delete("")

    def _read_settings(self) -> dict[str, Any]:
        try:
            found = json.loads(self._store.read(_SETTINGS_NAME))
        except (ValueError, RecursionError) as error:
            raise self._damaged(_SETTINGS_NAME, error) from error
        kinds = {"settings": dict, "replaced": list, "fingerprints": dict}
        if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
            raise self._damaged(_SETTINGS_NAME, "not the settings of a packing")
        return found

    def _write_settings(self, settings: dict[str, Any]) -> None:
        self._store.write(_SETTINGS_NAME, json.dumps(settings, indent=1, sort_keys=True).encode())

    def _damaged(self, name: str, cause: object) -> OctoscaleError:
        return OctoscaleError(
            f"{self._store.url}/{name} is damaged ({cause}); begin anew with --overwrite, without --resume"
        )


def _folder(part: str) -> str:
    return f"{part}/" if part else ""
