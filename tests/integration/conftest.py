"""Servers on the loopback interface that the integration tests speak to."""

import os
import uuid
from collections.abc import Iterator

import pytest

from octoscale.data.storage import forget_clients


@pytest.fixture(scope="session")
def _s3_endpoint() -> Iterator[str]:
    """An S3 server over HTTP that nobody knows of yet; its URL. One for all tests: it takes a second to start."""
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_server(_s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server, as the whole AWS chain of this process and its children sees it during one test; its URL."""
    s3fs = pytest.importorskip("s3fs")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", _s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # Clients read the chain once.
    s3fs.S3FileSystem.clear_instance_cache()
    forget_clients()
    yield _s3_endpoint
    s3fs.S3FileSystem.clear_instance_cache()
    forget_clients()


@pytest.fixture
def s3_url(s3_server: str) -> str:
    """``s3://…``, a new empty bucket."""
    import s3fs

    bucket = f"bucket-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}"
