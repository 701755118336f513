"""The open clients of this process, and how many requests they may have under way. The only importer of fsspec."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from octoscale.data.objects import Objects, TransientError, remaining
from octoscale.data.objects_fsspec import FilesystemObjects, S3Objects
from octoscale.data.storage_config import S3_SCHEMES, StorageConfig, scheme_of
from octoscale.errors import OctoscaleError

# How often who waits for a connection looks for the wish to give up.
_LOOK_SECONDS = 0.1
_EXTRAS = {"s3": "octoscale[s3]", "s3a": "octoscale[s3]", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


class Clients:
    """The clients of this process. None survives a change of process, nor credentials that have expired."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Any, Objects] = {}
        self._slots: dict[StorageConfig, threading.BoundedSemaphore] = {}
        os.register_at_fork(after_in_child=self.forget)

    def get(self, url: str, config: StorageConfig) -> Objects:
        scheme, host = scheme_of(url), url.split("://", 1)[1].split("/")[0]
        # One S3 client for all buckets; another filesystem may take its account from the URL.
        key = (scheme, config) if scheme in S3_SCHEMES or config.backend == "obstore" else (scheme, host, config)
        with self._lock:
            if key not in self._open:
                self._open[key] = _opened(url, f"{scheme}://{host}", config)
            return self._open[key]

    def drop(self, objects: Objects | None) -> None:
        """Forget a client, unless another thread already has."""
        with self._lock:
            self._open = {key: kept for key, kept in self._open.items() if kept is not objects}

    @contextmanager
    def slot(self, config: StorageConfig, seconds: float, is_stopped: Callable[[], bool]) -> Iterator[None]:
        """One of the process's connections; none is waited for once `is_stopped`."""
        with self._lock:
            slots = self._slots.setdefault(config, threading.BoundedSemaphore(config.connections))
        left = remaining(seconds)
        while not slots.acquire(timeout=min(left(), _LOOK_SECONDS)):
            if left() and not is_stopped():
                continue
            raise TransientError("busy", f"all {config.connections} connections were taken for {seconds:.1f} s")
        try:
            yield
        finally:
            slots.release()

    def forget(self) -> None:
        """Let every request read the environment anew; after a fork, the locks of the parent's threads are void too."""
        self._lock = threading.Lock()
        self._open = {}
        self._slots = {}


def _opened(url: str, root: str, config: StorageConfig) -> Objects:
    scheme = scheme_of(url)
    try:
        if scheme in S3_SCHEMES:
            _check_aws_environment(config)
        if config.backend == "obstore":
            from octoscale.data.objects_obstore import ObstoreObjects

            return ObstoreObjects(scheme, config)
        if scheme in S3_SCHEMES:
            return S3Objects(_filesystem(root, **_s3_options(config)))
        return FilesystemObjects(_filesystem(root), scheme)
    except ImportError as error:
        package = "octoscale[obstore]" if config.backend == "obstore" else _EXTRAS.get(scheme)
        advice = f"pip install {package}" if package else str(error)
        raise OctoscaleError(f"{url} needs a package that is not installed: {advice}") from error
    except OctoscaleError:
        raise
    except ValueError as error:
        if scheme in S3_SCHEMES:
            # Without the cause, which may quote a password.
            raise OctoscaleError(
                f"cannot open {url}: its server or region is not valid; check endpoint_url and region in ~/.aws/config"
            ) from None
        raise OctoscaleError(
            f"cannot open {url}: the scheme {scheme!r} is not known; use a local path, s3:// or gs://"
        ) from error


def _check_aws_environment(config: StorageConfig) -> None:
    """What the clients would tell late, or by an error of their own.

    Raises:
        OctoscaleError: the variable, and what to give.
    """
    import botocore.session

    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        url = os.environ.get(name)
        if url and config.endpoint_url is None and not re.match(r"https?://[^/]", url):
            # It may hold a password.
            shown = "what it holds" if "@" in url else repr(url)
            raise OctoscaleError(f"{name}: {shown} is not the URL of a server; give http://host:port or https://host")
    session = botocore.session.Session()
    profile = session.get_config_variable("profile")
    if profile is not None and profile not in session.available_profiles:
        raise OctoscaleError(
            f"AWS_PROFILE: the profile {profile!r} is not in ~/.aws/config or ~/.aws/credentials; "
            "give one that is there, or unset it"
        )


def _filesystem(url: str, **options: Any) -> Any:
    return fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)[0]


def _s3_options(config: StorageConfig) -> dict[str, Any]:
    client = {
        "connect_timeout": config.timeout_seconds,
        "read_timeout": config.timeout_seconds,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "max_pool_connections": config.connections,
    }
    return {"endpoint_url": config.endpoint_url, "config_kwargs": client, "max_concurrency": config.connections}
