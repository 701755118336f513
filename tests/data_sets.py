"""Data sets that tests put elsewhere."""

from octoscale.data.index import Index
from octoscale.data.storage import Store


def upload(packed: Index, store: Store) -> None:
    """Copy a packed data set to `store`."""
    local = Store(str(packed.directory))
    for name in local.list():
        store.write(name, local.read(name))
