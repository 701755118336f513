"""What a configuration of storage accepts, and that it keeps no secret."""

import pickle
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig, redacted
from octoscale.errors import OctoscaleError

ELSEWHERE = StorageConfig(endpoint_url="https://storage.example.org:9000/")
OBSTORE = StorageConfig(backend="obstore")


def test_a_store_with_a_configuration_is_a_value() -> None:
    store = Store("s3://bucket/faces", ELSEWHERE)

    assert pickle.loads(pickle.dumps(store)) == store
    assert hash(Store("s3://bucket/faces", ELSEWHERE)) == hash(store)
    assert store != Store("s3://bucket/faces")
    assert store.child("folder") == Store("s3://bucket/faces/folder", ELSEWHERE)
    assert ELSEWHERE.endpoint_url == "https://storage.example.org:9000"


def test_a_local_store_takes_any_configuration_and_uses_none(tmp_path: Path) -> None:
    store = Store(str(tmp_path), StorageConfig(endpoint_url="http://127.0.0.1:9", backend="obstore"))

    store.write("name", b"content")

    assert store.read("name") == b"content"


@pytest.mark.parametrize("url", ["gs://bucket/faces", "az://container/faces", "memory://faces"])
def test_an_endpoint_that_would_be_ignored_is_refused(url: str) -> None:
    with pytest.raises(OctoscaleError, match=f"is for s3:// alone and {url} is not; leave endpoint_url out"):
        Store(url, ELSEWHERE)


def test_a_scheme_that_obstore_does_not_know_is_refused() -> None:
    with pytest.raises(OctoscaleError, match="'obstore' knows s3://, gs:// and az://, not memory://faces"):
        Store("memory://faces", OBSTORE)


def test_obstore_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)

    with pytest.raises(OctoscaleError, match=r"pip install octoscale\[obstore\]"):
        Store("s3://bucket", StorageConfig(backend="obstore", connections=3)).read("name")


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:9000", "http://", "http://host?key=value", "http://[1", "s3://bucket"]
)
def test_an_endpoint_that_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="not "):
        StorageConfig(endpoint_url=url)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(OctoscaleError, match=r"s3://\*\*\*@bucket/x holds a password") as of_url:
        Store("s3://key:s3cret@bucket/x")
    with pytest.raises(ValidationError, match="holds a user or a password") as of_endpoint:
        StorageConfig(endpoint_url="https://key:s3cret@host")

    assert "s3cret" not in str(of_url.value) + str(of_endpoint.value)
    assert [problem["type"] for problem in of_endpoint.value.errors()] == ["secret"]
    assert redacted("abfs://container@account.dfs.core.windows.net/x") == (
        "abfs://container@account.dfs.core.windows.net/x"
    )


def test_a_deadline_shorter_than_one_timeout_is_refused() -> None:
    with pytest.raises(ValidationError, match="deadline_seconds 5 is shorter than timeout_seconds 20"):
        StorageConfig(deadline_seconds=5)


@pytest.mark.parametrize("url", ["s3://me:pass/word@bucket/x", "gs://me:/@bucket"])
def test_a_password_with_a_slash_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(OctoscaleError, match=r"[a-z0-9]+://\*\*\*@bucket.* holds a password"):
        Store(url)


@pytest.mark.parametrize("url", ["memory://host:9000/a@b", "memory://host:9000", "s3://bucket/a:b@c", "/data/a:b@c"])
def test_a_port_or_a_name_with_an_at_is_no_password(url: str) -> None:
    assert Store(url).url == redacted(url) == url


def test_settings_win_over_others_where_they_are_given() -> None:
    own = StorageConfig(connections=3, timeout_seconds=7.0, deadline_seconds=9.0)
    given = StorageConfig(connections=16)
    assert given.over(own) == StorageConfig(connections=16, timeout_seconds=7.0, deadline_seconds=9.0)
    with pytest.raises(OctoscaleError, match="run's own, deadline_seconds 9 is shorter than timeout_seconds 30; raise"):
        StorageConfig(timeout_seconds=30).over(own)
