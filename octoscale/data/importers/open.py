"""Which form a source has, and the source."""

from typing import Literal, get_args

from octoscale.data.importers.folder import open_folder
from octoscale.data.importers.listing import open_list
from octoscale.data.importers.record_source import open_records
from octoscale.data.importers.source import Source
from octoscale.data.importers.table import Columns, open_table
from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError

Format = Literal["folder", "list", "csv", "parquet", "recordio"]
_BY_SUFFIX: dict[str, Format] = {
    ".rec": "recordio", ".txt": "list", ".lst": "list", ".list": "list", ".csv": "csv", ".tsv": "csv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


def open_source(
    url: str,
    *,
    form: str | None = None,
    root: str | None = None,
    columns: Columns | None = None,
    storage: StorageConfig | None = None,
) -> Source:
    """The images at `url`, of whatever form.

    Args:
        form: None decides by the name, and for a folder by whether it holds a ``.rec``.
        root: the folder that a list's or table's paths are relative to; by default its own.
        columns: of a table.
        storage: how all of it is reached; None: by the defaults.

    Raises:
        OctoscaleError: nothing is there, or it is not what its form asks for.
    """
    if form is not None and form not in get_args(Format):
        raise OctoscaleError(f"the format {form!r} is not known; it is one of {', '.join(get_args(Format))}")
    storage = storage or DEFAULT
    store = Store(url, storage)
    suffix = next((suffix for suffix in _BY_SUFFIX if url.lower().endswith(suffix)), None)
    # A folder may be named like a file: data.rec/train.rec.
    is_folder = suffix is None or (store.is_local and store.local_path().is_dir())
    names = None
    if is_folder and form in (None, "folder", "recordio"):
        names = store.list()
        records = [name for name in names if "/" not in name and name.endswith(".rec")]
        if form == "recordio" or (form is None and records):
            if len(records) != 1:
                raise OctoscaleError(f"{url} holds {len(records)} .rec files; name the one to be packed")
            url, form = f"{url.rstrip('/')}/{records[0]}", "recordio"
    if form is None:
        form = "folder" if suffix is None or is_folder else _BY_SUFFIX[suffix]
    if root is not None and form in ("folder", "recordio"):
        raise OctoscaleError(f"a root folder ({root}) belongs to lists and tables, and {url} is a {form}")
    match form:
        case "folder":
            return open_folder(url, names, storage)
        case "list":
            return open_list(url, root, storage)
        case "recordio":
            return open_records(url, storage)
        case _:
            return open_table(url, columns or Columns(), root, storage, parquet=form == "parquet")
