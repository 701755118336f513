"""The objects of S3, Google Cloud and Azure by obstore, a client in Rust. The only importer of obstore."""

import asyncio
import os
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from octoscale.data.objects import ExpiredError, Head, Part, TransientError, refusal, remaining, short_by, wait
from octoscale.data.storage_config import S3_SCHEMES, StorageConfig
from octoscale.errors import OctoscaleError

# The least part that S3 accepts in an upload.
_LEAST_UPLOAD_BYTES = 5 * 2**20
# What S3 lists in one answer.
_PAGE_OBJECTS = 1000
# obstore asks again 5 minutes before the end: half of the least life that botocore leaves to a role's keys.
_CREDENTIALS_LIVE = timedelta(minutes=10)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_HTTP_KIND = re.compile(r"\bkind: (\w+)")

_lock = threading.Lock()
_process: int | None = None
_loop: asyncio.AbstractEventLoop | None = None


class ObstoreObjects:
    """`Objects` by one obstore client per bucket, none of which retries. Paths: ``bucket/key``."""

    def __init__(self, scheme: str, config: StorageConfig) -> None:
        import obstore  # noqa: F401  Its absence is told before anything else.

        self._loop = _running_loop()
        self._scheme, self._config = scheme, config
        self._options: dict[str, Any] = {}
        if scheme in S3_SCHEMES:
            self._options = _s3_options(config)
        self._buckets: dict[tuple[str, bool], Any] = {}

    def head(self, path: str, seconds: float) -> Head:
        import obstore

        (store, key), left = self._at(path), remaining(seconds)
        try:
            return _head(self._run(seconds, lambda: obstore.head_async(store, key)))
        except (PermissionError, ExpiredError, FileNotFoundError, TransientError):
            raise
        except OSError:
            # A HEAD has no body to say that its token has expired (HTTP 400); a GET has.
            head = self.get(path, 0, 1, left()).head
            assert head is not None
            return head

    def is_folder(self, path: str, seconds: float) -> bool:
        return bool(self._list(path, seconds, most=1)) or "/" not in path

    def get(self, path: str, start: int, end: int | None, seconds: float) -> Part:
        import obstore

        store, key = self._at(path)

        async def fetch() -> tuple[Head, bytes]:
            asked: Any = {"offset": start} if end is None else (start, end)
            answer = await obstore.get_async(store, key, options={"range": asked})
            return _head(answer.meta), bytes(await answer.bytes_async())

        head, data = self._run(seconds, fetch)
        short_by(min(head.size_bytes if end is None else end, head.size_bytes) - start, data)
        return Part(data, head)

    def put(self, path: str, data: bytes, exclusive: bool, seconds: float) -> None:
        import obstore

        store, key = self._at(path, writing=True)
        how = self._upload("create" if exclusive else "overwrite")
        self._run(seconds, lambda: obstore.put_async(store, key, data, **how))

    def put_file(self, path: str, local_path: Path, seconds: float) -> None:
        import obstore

        store, key = self._at(path, writing=True)
        how = self._upload("overwrite")
        self._run(seconds, lambda: obstore.put_async(store, key, local_path, **how))

    def page(self, path: str, after: str | None, seconds: float) -> tuple[list[str], str | None]:
        if self._scheme not in S3_SCHEMES:
            # obstore would begin each page of another provider at the first object.
            return self._list(path, seconds), None
        names = self._list(path, seconds, after=after, most=_PAGE_OBJECTS)
        return names, names[-1].partition("/")[2] if len(names) == _PAGE_OBJECTS else None

    def delete(self, paths: Sequence[str], seconds: float) -> None:
        import obstore

        store, _ = self._at(paths[0])
        keys = [path.partition("/")[2] for path in paths]
        self._run(seconds, lambda: obstore.delete_async(store, keys))

    def _list(self, path: str, seconds: float, *, after: str | None = None, most: int | None = None) -> list[str]:
        """The first `most` paths after the key `after`; None: all of them."""
        import obstore

        store, key = self._at(path)
        bucket = path.partition("/")[0]

        async def found() -> Sequence[Any]:
            stream = obstore.list(store, key or None, offset=after, chunk_size=most or _PAGE_OBJECTS)
            try:
                return await (stream.collect_async() if most is None else anext(stream))
            except StopAsyncIteration:
                return []

        return [f"{bucket}/{meta['path']}" for meta in self._run(seconds, found)]

    def _upload(self, mode: Any) -> dict[str, Any]:
        part_bytes = max(self._config.part_bytes, _LEAST_UPLOAD_BYTES)
        return {"mode": mode, "chunk_size": part_bytes, "max_concurrency": self._config.connections}

    def _at(self, path: str, *, writing: bool = False) -> tuple[Any, str]:
        """The client of the path's bucket, and the key."""
        from obstore.store import from_url

        bucket, _, key = path.partition("/")
        if (bucket, writing) not in self._buckets:
            seconds = self._config.timeout_seconds
            # Silence counts from the first byte sent, so that a long upload would look like a silent server.
            silence = self._config.deadline_seconds if writing else seconds
            self._buckets[bucket, writing] = from_url(
                f"{self._scheme}://{bucket}",
                client_options={
                    "allow_http": True,  # Only if the endpoint says http://.
                    "connect_timeout": timedelta(seconds=seconds),
                    "read_timeout": timedelta(seconds=silence),
                    "timeout": timedelta(seconds=self._config.deadline_seconds + seconds),
                    "pool_max_idle_per_host": str(self._config.connections),
                },
                retry_config={"max_retries": 0},
                **self._options,
            )
        return self._buckets[bucket, writing], key

    def _run(self, seconds: float, call: Callable[[], Awaitable[Any]]) -> Any:
        from obstore.exceptions import BaseError

        async def on_the_loop() -> Any:  # obstore's calls must begin there.
            return await call()

        try:
            return wait(self._loop, on_the_loop(), seconds)
        except (BaseError, FileNotFoundError, PermissionError) as error:
            # Without its origin: obstore's text quotes the server's whole answer, in which S3 repeats a refused token.
            raise _translated(error) from None


def _running_loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process, turned by a thread of its own as long as the process lives."""
    global _process, _loop
    with _lock:
        if _process not in (None, os.getpid()):
            raise OctoscaleError(
                "obstore was in use when this process was forked and does not survive that; start processes by spawn"
            )
        if _loop is None:
            _process, _loop = os.getpid(), asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="octoscale-obstore", daemon=True).start()
        return _loop


def _s3_options(config: StorageConfig) -> dict[str, Any]:
    """Server, region and keys as botocore finds them: obstore alone reads neither profiles nor ``~/.aws``."""
    import botocore.session

    session = botocore.session.Session()
    client = session.create_client("s3", endpoint_url=config.endpoint_url, region_name=_region(session))
    options: dict[str, Any] = {"region": client.meta.region_name}
    if not str(urlsplit(client.meta.endpoint_url).hostname).endswith((".amazonaws.com", ".amazonaws.com.cn")):
        options["endpoint"] = client.meta.endpoint_url
    client.close()
    credentials = session.get_credentials()
    if credentials is None:
        raise PermissionError("no AWS credentials in the environment, in ~/.aws or of this machine's role")

    def current() -> dict[str, Any]:
        keys = credentials.get_frozen_credentials()
        expires_at = datetime.now(UTC) + _CREDENTIALS_LIVE
        return {"access_key_id": keys.access_key, "secret_access_key": keys.secret_key, "token": keys.token,
                "expires_at": expires_at}  # fmt: skip

    return options | {"credential_provider": current}


def _region(session: Any) -> str:
    return str(session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1")


def _head(meta: Any) -> Head:
    return Head(int(meta["size"]), meta["e_tag"])


def _translated(error: Exception) -> OSError:
    text = str(error)
    told, _, debug = text.partition("\n\nDebug source")
    code, message = _CODE.search(told), _MESSAGE.search(told)
    if status := _STATUS.search(told):
        told_by_server = refusal(int(status[1]), code[1] if code else "", message[1] if message else "")
        exists = type(told_by_server) is OSError and type(error).__name__ == "AlreadyExistsError"
        return FileExistsError(str(told_by_server)) if exists else told_by_server
    if "HTTP error" in told:
        kind = found[1] if (found := _HTTP_KIND.search(debug)) else ""
        silent = kind == "Timeout"
        cause = "timeout" if silent else "truncated" if "body error" in told else "connection"
        reason = "the server was silent for too long" if silent else f"{told.rpartition('HTTP error: ')[2]} ({kind})"
        return TransientError(cause, reason)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError("no such object")
    return OSError(told.splitlines()[0][:300])
