"""What is at the destination of a packing: an older data set, an interrupted packing, or other files, which stay."""

import json
import re
from typing import Any

from octoscale.data.index import INDEX_NAMES, MANIFEST_NAME, Manifest
from octoscale.data.pack.report import REPORT_NAME, PackReport
from octoscale.data.pack.rules import Rules
from octoscale.data.pack.state import PackState
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

_SHARD = re.compile(r"shards/shard-\d{6,}\.tar")


def store_of(destination: Store, part: str) -> Store:
    """Where a part of the data set goes; "" is the destination itself."""
    return destination.child(part) if part else destination


def refuse_inside(source: Store, destination: Store, rules: Rules) -> None:
    """Refuse to write any part of the data set into the source."""
    for part in {"": None, **dict.fromkeys(rules.parts)}:
        store = store_of(destination, part)
        if source.is_local and store.is_local:
            inside = store.local_path().resolve().is_relative_to(source.local_path().resolve())
        else:
            inside = f"{store.url.rstrip('/')}/".startswith(f"{source.url.rstrip('/')}/")
        if inside:
            raise OctoscaleError(f"the destination {store.url} is inside the source {source.url}; choose another")


def begin(destination: Store, rules: Rules, settings: dict[str, Any], *, overwrite: bool, resume: bool) -> PackState:
    """The state of the packing that begins or goes on; refuses to mix with what is there."""
    destination.probe_writable()
    state = PackState(destination)
    if resume and state.exists():
        # Even with `overwrite`: that began this packing, and would now throw away what it has done.
        state.check(settings)
        return state
    parts = _old_parts(destination, rules)
    old_names = _old_names(destination, rules, parts)
    if old_names or state.exists():
        if any(name.endswith(MANIFEST_NAME) for name in old_names):
            places = ", ".join(name for name in old_names if name.endswith(MANIFEST_NAME))
            what, advice = f"a packed data set ({places})", "pack elsewhere, or overwrite it (--overwrite)"
        else:
            what = "a part of one, from an interrupted packing"
            advice = "go on with it (--resume), or overwrite it (--overwrite)"
        if not overwrite:
            raise OctoscaleError(f"{destination.url} already holds {what}; {advice}")
    state.begin(settings, parts)
    return state


def clear_old(destination: Store, rules: Rules, state: PackState) -> None:
    """Delete what is there of an older data set, its manifests first: all but this packing's state and its shards."""
    mine = {f"{part}/{name}" if part else name for part in rules.parts for name in state.shards(part)}
    for name in _old_names(destination, rules, state.replaced):
        if name not in mine:
            destination.delete(name)


def whole_report(destination: Store, rules: Rules, state: PackState) -> PackReport | None:
    """The report of a packing that was interrupted when only its state was still to be cleared; None of any other."""
    fingerprints, reports = state.fingerprints, []
    if fingerprints.keys() != set(rules.parts):
        return None
    for part in rules.parts:
        store = store_of(destination, part)
        if not store.exists(MANIFEST_NAME):
            return None
        if Manifest.parse(store.read(MANIFEST_NAME), store.url).fingerprint != fingerprints[part]:
            return None
        reports.append(PackReport.parse(store.read(REPORT_NAME), f"{store.url}/{REPORT_NAME}"))
    return reports[0].with_held_out(*reports[1:])


def _old_parts(destination: Store, rules: Rules) -> list[str]:
    """Names of the folders, one level down, that hold a data set: of an older split, perhaps another one."""
    if destination.is_local:
        # Not listed: folders deeper down may hold millions of files, or be nobody's to read.
        candidates = sorted(path.parent.name for path in destination.local_path().glob(f"*/{MANIFEST_NAME}"))
    else:
        found = (name.split("/") for name in destination.list())
        candidates = [parts[0] for parts in found if len(parts) == 2 and parts[1] == MANIFEST_NAME]
    return [part for part in candidates if part not in rules.parts and _is_data_set(destination.child(part))]


def _is_data_set(store: Store) -> bool:
    """Whether the manifest is one of ours: many things have a ``manifest.json``."""
    try:
        found = json.loads(store.read(MANIFEST_NAME))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"schema_version", "fingerprint", "index_sha256"} <= found.keys()


def _old_names(destination: Store, rules: Rules, replaced: list[str]) -> list[str]:
    """What an older packing left at the destination, in the parts to be and in those to be replaced, manifests first.

    Only names that a packing writes: all else belongs to somebody else.
    """
    found = []
    for part in {"": None, **dict.fromkeys(rules.parts), **dict.fromkeys(replaced)}:
        store, folder = store_of(destination, part), f"{part}/" if part else ""
        names = [name for name in store.list("shards") if _SHARD.fullmatch(name)]
        names += [name for name in store.list("index") if name in INDEX_NAMES]
        names += [name for name in (MANIFEST_NAME,) if store.exists(name)]
        # Where none is to be written, a report without anything else of ours is somebody else's.
        if (names or part in rules.parts) and store.exists(REPORT_NAME):
            names.append(REPORT_NAME)
        found += [folder + name for name in names]
    return sorted(found, key=lambda name: (not name.endswith(MANIFEST_NAME), name))
