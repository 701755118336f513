"""Servers on the loopback interface that the integration tests speak to."""

import os
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from octoscale.data.storage import Store, forget_clients
from octoscale.data.storage_config import StorageConfig
from tests.integration.fault_proxy import FaultProxy, Rule, faulty


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


def put_object(endpoint: str, path: str, data: bytes = b"") -> None:
    """Put ``bucket/key``, or create ``bucket``, without a client: they take long to open. The server checks no keys."""
    signed = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"Content-Type": "application/octet-stream", "Authorization": signed}
    request = urllib.request.Request(f"{endpoint}/{path}", data, headers, method="PUT")
    with urllib.request.urlopen(request, timeout=10):
        pass


@pytest.fixture
def s3_url(s3_server: str) -> str:
    """``s3://…``, a new empty bucket."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    put_object(s3_server, bucket)
    return f"s3://{bucket}"


@pytest.fixture(params=["fsspec", "obstore"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each of the clients of object storage."""
    if request.param == "obstore":
        pytest.importorskip("obstore")
    return str(request.param)


@pytest.fixture
def s3_store(s3_url: str, backend: str) -> Store:
    """A new empty bucket, by each backend."""
    return Store(s3_url, StorageConfig.model_validate({"backend": backend}))


@pytest.fixture
def fault_proxy(s3_server: str) -> Iterator[Callable[..., FaultProxy]]:
    """Starts a proxy before the S3 server that follows the rules it is given; all end with the test."""
    with ExitStack() as stack:

        def start(*rules: Rule, seed: int = 0) -> FaultProxy:
            return stack.enter_context(faulty(s3_server, rules, seed))

        yield start
        forget_clients()
