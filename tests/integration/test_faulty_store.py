"""What each client of object storage makes of an unreliable network and an overloaded store.

Bytes that arrive wrong but in full are not the store's business: its callers compare checksums.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octoscale.data.objects_fsspec import S3Objects
from octoscale.data.retry import OperationCounts, counters
from octoscale.data.storage import Store, forget_clients
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from tests.integration.conftest import put_object
from tests.integration.fault_proxy import (
    EXPIRED_TOKEN,
    FORBIDDEN,
    MISSING,
    SLOW_DOWN,
    Answer,
    Drip,
    Fault,
    FaultProxy,
    Flip,
    Request,
    Reset,
    Rule,
    Stall,
    Truncate,
)

PART_BYTES = 2**16
CONTENT = np.random.default_rng(0).bytes(4 * PART_BYTES + 2000)
TIMEOUT_SECONDS = 0.5
# Much for a busy machine, little beside the default deadline.
SOON_SECONDS = 15.0
# 502 comes from load balancers; 400 is how AWS itself answers an expired token.
BAD_GATEWAY = Answer(502, "BadGateway")
EXPIRED_AT_AWS = Answer(400, "ExpiredToken")


class Meet:
    """Makes stores whose requests meet faults."""

    def __init__(self, server: str, url: str, backend: str, start: Callable[..., FaultProxy]) -> None:
        self.url, self._server, self._backend, self._start = url, server, backend, start
        self.proxy = FaultProxy()

    def __call__(
        self, *rules: Rule, seed: int = 0, timeout_seconds: float = TIMEOUT_SECONDS, deadline_seconds: float = 20.0
    ) -> Store:
        self.proxy = self._start(*rules, seed=seed)
        config = {
            "backend": self._backend, "endpoint_url": self.proxy.url, "timeout_seconds": timeout_seconds,
            "deadline_seconds": deadline_seconds, "part_bytes": PART_BYTES, "connections": 4,
        }  # fmt: skip
        return Store(self.url, StorageConfig.model_validate(config))

    def behind(self, name: str, data: bytes) -> None:
        """Write as another would, past the proxy."""
        put_object(self._server, f"{self.url.removeprefix('s3://')}/{name}", data)


@pytest.fixture
def meet(s3_server: str, s3_url: str, backend: str, fault_proxy: Callable[..., FaultProxy]) -> Meet:
    """Stores of a bucket with ``big`` and ``small`` whose requests meet faults."""
    bucket = s3_url.removeprefix("s3://")
    put_object(s3_server, f"{bucket}/big", CONTENT)
    put_object(s3_server, f"{bucket}/small", b"0123456789")
    return Meet(s3_server, s3_url, backend, fault_proxy)


def retried(operation: str, before: dict[str, OperationCounts]) -> set[str]:
    """The causes of the retries of `operation` since `before`."""
    old = before.get(operation, OperationCounts()).retries
    return {cause for cause, count in counters.snapshot()[operation].retries.items() if count > old[cause]}


@pytest.mark.parametrize(
    ("fault", "causes"),
    [
        (SLOW_DOWN, {"busy"}),
        (BAD_GATEWAY, {"busy"}),
        (Reset(), {"connection"}),
        (Stall(), {"timeout"}),
        (Stall(after_bytes=1000), {"timeout"}),
        (Truncate(after_bytes=1000), {"truncated"}),
        (EXPIRED_AT_AWS, {"expired"}),
    ],
)
def test_a_passing_fault_costs_a_retry_and_not_a_byte(
    meet: Meet, backend: str, fault: Fault, causes: set[str], tmp_path: Path
) -> None:
    store = meet(Rule(fault, "GET", "big", nth=[2, 3]))
    before = counters.snapshot()

    store.download("big", tmp_path / "big", len(CONTENT))

    assert (tmp_path / "big").read_bytes() == CONTENT
    # aiohttp itself repeats a request once whose connection was reset; two busy cores may add a timeout.
    found = retried("download", before) | ({"connection"} if fault == Reset() and backend == "fsspec" else set())
    assert causes <= found <= causes | {"timeout"}
    assert meet.proxy.count("GET", "big", faulty=True) == 2


@pytest.mark.parametrize("fault", [SLOW_DOWN, Reset(after_the_work=True), Stall(), EXPIRED_AT_AWS])
def test_every_operation_outlives_a_passing_fault(meet: Meet, fault: Fault, tmp_path: Path) -> None:
    store = meet(*(Rule(fault, method, nth=[1]) for method in ("GET", "HEAD", "PUT", "POST", "DELETE")))
    (tmp_path / "local").write_bytes(b"uploaded")

    assert store.list() == ["big", "small"]
    assert store.size("small") == 10
    store.write("new", b"written")
    store.upload(tmp_path / "local", "uploaded")
    store.delete("small")

    assert store.read_many(["new", "uploaded"]) == [b"written", b"uploaded"]
    assert store.exists("new")
    assert not store.exists("small")


def test_an_exclusive_write_whose_answer_was_lost_succeeds(meet: Meet) -> None:
    store = meet(Rule(Reset(after_the_work=True), "PUT", nth=[1]), timeout_seconds=20.0)

    store.write("claim", b"mine", exclusive=True)

    assert store.read("claim") == b"mine"
    assert meet.proxy.count("PUT") == 2


def test_an_exclusive_write_that_lost_to_another_is_refused_after_a_fault_too(meet: Meet) -> None:
    store = meet(Rule(Reset(), "PUT", nth=[1]))
    meet.behind("claim", b"another's")

    with pytest.raises(FileExistsError):
        store.write("claim", b"mine", exclusive=True)

    assert store.read("claim") == b"another's"


@pytest.mark.parametrize("fault", [MISSING, FORBIDDEN])
def test_an_answer_for_good_is_not_asked_for_twice(meet: Meet, fault: Answer) -> None:
    store = meet(Rule(fault, "GET", "small"), timeout_seconds=20.0)

    with pytest.raises(OctoscaleError, match=r"cannot read s3://.*/small: (there is no such|permission denied)"):
        store.read("small")

    assert meet.proxy.count("GET", "small") == 1


@pytest.mark.parametrize("fault", [SLOW_DOWN, Reset(), Stall(after_bytes=1000), Drip(0.1)])
def test_a_lasting_fault_ends_by_the_deadline_and_leaves_no_file(meet: Meet, fault: Fault, tmp_path: Path) -> None:
    store = meet(Rule(fault, "GET", "big"), deadline_seconds=1.0)
    began = time.monotonic()

    with pytest.raises(OctoscaleError, match=r"cannot read s3://.*/big: .*; check the credentials, the network"):
        store.download("big", tmp_path / "big")

    assert time.monotonic() - began < SOON_SECONDS
    assert not (tmp_path / "big").exists()


@pytest.mark.parametrize("fault", [EXPIRED_TOKEN])
def test_credentials_that_stay_expired_are_told_after_a_few_tries(meet: Meet, fault: Answer) -> None:
    store = meet(Rule(fault), timeout_seconds=20.0)

    with pytest.raises(OctoscaleError, match=r"the credentials have expired .*; renew them"):
        store.read("small")

    assert meet.proxy.requests == 4


def test_renewed_credentials_are_picked_up(meet: Meet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    path.write_text("[default]\naws_access_key_id = OLDKEY\naws_secret_access_key = old\n")
    store = meet(Rule(EXPIRED_AT_AWS, "GET", "big", key_id="OLDKEY"), timeout_seconds=20.0)
    assert store.read("small") == b"0123456789"
    path.write_text("[default]\naws_access_key_id = NEWKEY\naws_secret_access_key = new\n")

    assert store.read("big") == CONTENT

    assert meet.proxy.count(faulty=True) == 1


@pytest.mark.parametrize("fault", [FORBIDDEN, EXPIRED_AT_AWS])
def test_no_message_and_no_log_holds_a_secret(
    meet: Meet, fault: Answer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIAMADEUP",
        "AWS_SECRET_ACCESS_KEY": "made/up+s3cret",
        "AWS_SESSION_TOKEN": "FwoG",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    # S3 repeats a token that it refuses.
    store = meet(Rule(Answer(fault.status, fault.code, "<Token-0>FwoG</Token-0>")), deadline_seconds=1.0)

    with caplog.at_level("INFO"), pytest.raises(OctoscaleError) as raised:
        store.read("small")

    told = str(raised.value) + caplog.text + repr(store) + str(store.config.model_dump())
    assert not [secret for secret in secrets.values() if secret in told]


def test_an_object_replaced_while_it_is_read_is_told(meet: Meet, tmp_path: Path) -> None:
    store = meet(timeout_seconds=20.0)

    class Replacing(list[Request]):
        """When the second part is asked for, and before it is."""

        def append(self, seen: Request) -> None:
            super().append(seen)
            if sum(it.method == "GET" and it.path.endswith("/big") for it in self) == 2:
                meet.behind("big", CONTENT[::-1])

    meet.proxy.log = Replacing()
    with pytest.raises(OctoscaleError, match=r"cannot read s3://.*/big: it was replaced while it was read"):
        Store(store.url, store.config.model_copy(update={"connections": 1})).download("big", tmp_path / "big")
    assert not (tmp_path / "big").exists()


def test_an_object_deleted_while_it_is_read_is_told(meet: Meet, tmp_path: Path) -> None:
    store = meet(Rule(MISSING, "GET", "big", nth=[3]))

    with pytest.raises(OctoscaleError, match=r"cannot read s3://.*/big: it was deleted while it was read"):
        store.download("big", tmp_path / "big")


def test_flipped_bytes_pass_for_the_callers_checksums_to_find(meet: Meet) -> None:
    found = meet(Rule(Flip(5), "GET", "big", nth=[2]), timeout_seconds=20.0).read("big")

    assert len(found) == len(CONTENT)
    assert sum(one != other for one, other in zip(found, CONTENT, strict=True)) == 1


def test_many_small_faults_and_many_ranges_give_the_right_bytes(meet: Meet) -> None:
    store = meet(
        Rule(SLOW_DOWN, probability=0.1), Rule(Reset(), probability=0.1), Rule(Truncate(10), "GET", probability=0.1)
    )
    ranges = [(start, start + 4096) for start in range(0, len(CONTENT), 4096)]

    assert b"".join(store.read_ranges("big", ranges)) == CONTENT

    assert meet.proxy.count(faulty=True) > 5


def test_no_thread_outlives_an_operation(meet: Meet, tmp_path: Path) -> None:
    store = meet(Rule(SLOW_DOWN, "GET", "small"))
    store.download("big", tmp_path / "big")

    with pytest.raises(OctoscaleError):
        Store(store.url, store.config.model_copy(update={"deadline_seconds": 2.0})).read_many(["big", "small"])

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("octoscale-storage")]


def test_a_long_transfer_outlives_its_deadline(meet: Meet, tmp_path: Path) -> None:
    # Each part's first two requests are silent for a timeout: all parts together take longer than the deadline.
    silent = [number for number in range(1, 99) if number % 3]
    store = meet(Rule(Stall(), "GET", "big", nth=silent), deadline_seconds=4.0)
    store = Store(store.url, store.config.model_copy(update={"connections": 1}))
    began = time.monotonic()

    store.download("big", tmp_path / "big", len(CONTENT))

    assert time.monotonic() - began > 4.0
    assert (tmp_path / "big").read_bytes() == CONTENT


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_looking_for_an_object_ends_by_the_deadline(meet: Meet, method: str) -> None:
    store = meet(Rule(Stall(), method), deadline_seconds=1.0)
    began = time.monotonic()

    with pytest.raises(OctoscaleError):
        store.exists("none")

    assert time.monotonic() - began < SOON_SECONDS


def test_a_transfer_that_is_given_up_ends_soon_and_leaves_nothing(meet: Meet, tmp_path: Path) -> None:
    store = meet(Rule(SLOW_DOWN, "GET", "big", nth=range(3, 10_000)), deadline_seconds=60.0)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    began = time.monotonic()

    with pytest.raises(OctoscaleError, match=r"/big was given up$"):
        store.download("big", tmp_path / "big", stop=stop)
    with pytest.raises(OctoscaleError, match=r"/big was given up$"):
        store.read_ranges("big", [(0, 10), (20, 30)], stop=stop)

    assert time.monotonic() - began < SOON_SECONDS
    assert not (tmp_path / "big").exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("octoscale-storage")]


def test_each_page_of_a_listing_is_tried_by_itself(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octoscale.data.objects_obstore._PAGE_OBJECTS", 2)
    request = S3Objects._request

    async def in_twos(self: S3Objects, method: str, path: str, **arguments: Any) -> Any:
        pages = {"MaxKeys": 2} if method == "list_objects_v2" else {}
        return await request(self, method, path, **pages | arguments)

    monkeypatch.setattr(S3Objects, "_request", in_twos)
    store = meet(Rule(SLOW_DOWN, "GET", "list-type", nth=[2, 4, 5]), timeout_seconds=20.0)
    for number in range(5):
        store.write(f"folder/{number}", b"")
    before = counters.snapshot()

    assert store.list("folder") == [f"folder/{number}" for number in range(5)]

    # obstore asks the server for full pages all the same.
    assert counters.snapshot()["list"].requests - before.get("list", OperationCounts()).requests == 3 + 3
    store.delete("folder")
    assert store.list() == ["big", "small"]
