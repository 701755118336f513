"""MATLAB's files, through SciPy."""

import io
from typing import Any

from octoscale.data.importers.paths import store_and_name
from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError


def read_matlab(path: str, *variables: str, storage: StorageConfig = DEFAULT) -> dict[str, Any]:
    """The variables of a ``.mat`` file, structures and cell arrays as SciPy gives them.

    Args:
        path: a local path or URL.
        variables: that must be in it.
        storage: how it is reached.

    Raises:
        OctoscaleError: the file cannot be read, is another kind of file, or lacks a variable; SciPy is missing.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise OctoscaleError(f"{path} needs a package that is not installed: pip install octoscale[matlab]") from error
    store, name = store_and_name(path, storage)
    data = store.read(name)
    try:
        values: dict[str, Any] = loadmat(io.BytesIO(data))
    except Exception as error:  # whatever a damaged file provokes in SciPy
        raise OctoscaleError(f"{path} is not a MATLAB file that SciPy reads: {error}") from error
    missing = [variable for variable in variables if variable not in values]
    if missing:
        present = ", ".join(key for key in values if not key.startswith("__"))
        raise OctoscaleError(f"{path} has no variable {missing[0]}, only {present or 'none'}; give another file")
    return values
