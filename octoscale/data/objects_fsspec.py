"""The objects of an fsspec filesystem: S3 by its own requests, any other by fsspec's interface."""

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octoscale.data.objects import ExpiredError, Head, Part, TransientError, refusal, remaining, short_by, wait

# What the loaded clients raise beside OSError (none of theirs derive from it), by module and name.
_TRANSIENT = {
    "botocore.exceptions": ("HTTPClientError", "ConnectionError", "ResponseStreamingError"),
    "botocore.parsers": ("ResponseParserError",),
    "aiohttp": ("ClientError",),
}
_RENEWABLE = {
    "botocore.exceptions": ("CredentialRetrievalError", "TokenRetrievalError", "SSOError", "MetadataRetrievalError")
}
_OTHER = {"botocore.exceptions": ("BotoCoreError", "ClientError"), "gcsfs.retry": ("HttpError",)}
_MARK = "octoscale-write"


class S3Objects:
    """`Objects` by an s3fs filesystem, whose own retries are off. Paths: ``bucket/key``."""

    def __init__(self, filesystem: Any) -> None:
        filesystem.retries = 1
        self._s3 = filesystem

    def head(self, path: str, seconds: float) -> Head:
        left = remaining(seconds)
        try:
            found = self._call(seconds, "head_object", path)
        except PermissionError:
            pass
        except OSError as error:
            if type(error) is not OSError:
                raise
        else:
            return Head(int(found["ContentLength"]), found.get("ETag"))
        # A HEAD has no body to say whether a key is unknown, forbidden, or its token has expired (HTTP 400): a GET has.
        head = self.get(path, 0, 1, left()).head
        assert head is not None
        return head

    def is_folder(self, path: str, seconds: float) -> bool:
        bucket, _, key = path.partition("/")
        found = self._call(seconds, "list_objects_v2", bucket, Prefix=f"{key}/" if key else "", MaxKeys=1)
        return not key or bool(found.get("Contents"))

    def get(self, path: str, start: int, end: int | None, seconds: float) -> Part:
        async def fetch() -> tuple[dict[str, Any], bytes]:
            answer = await self._request("get_object", path, Range=f"bytes={start}-{'' if end is None else end - 1}")
            async with answer["Body"] as body:
                return answer, await body.read()

        with _explained():
            answer, data = wait(self._s3.loop, fetch(), seconds)
        if "ContentRange" not in answer:
            raise OSError("the server does not know byte ranges; use one that does")
        size = int(answer["ContentRange"].rpartition("/")[2])
        short_by(min(size if end is None else end, size) - start, data)
        return Part(data, Head(size, answer.get("ETag")))

    def put(self, path: str, data: bytes, exclusive: bool, seconds: float) -> None:
        # aiohttp quietly repeats a request whose connection broke, and may meet its own object: the mark tells.
        mark, left = uuid.uuid4().hex, remaining(seconds)
        options = {"mode": "create", "Metadata": {_MARK: mark}} if exclusive else {}
        try:
            with _explained():
                wait(self._s3.loop, self._s3._pipe_file(path, data, **options), seconds)
        except FileExistsError:
            if self._call(left(), "head_object", path).get("Metadata", {}).get(_MARK) != mark:
                raise

    def put_file(self, path: str, local_path: Path, seconds: float) -> None:
        with _explained():
            wait(self._s3.loop, self._s3._put_file(str(local_path), path), seconds)

    def page(self, path: str, after: str | None, seconds: float) -> tuple[list[str], str | None]:
        bucket, _, key = path.partition("/")
        more = {} if after is None else {"ContinuationToken": after}
        found = self._call(seconds, "list_objects_v2", bucket, Prefix=f"{key}/" if key else "", **more)
        names = [f"{bucket}/{item['Key']}" for item in found.get("Contents", [])]
        return names, found.get("NextContinuationToken") if found.get("IsTruncated") else None

    def delete(self, paths: Sequence[str], seconds: float) -> None:
        bucket = paths[0].partition("/")[0]
        keys = [{"Key": path.partition("/")[2]} for path in paths]
        answer = self._call(seconds, "delete_objects", bucket, Delete={"Objects": keys, "Quiet": True})
        for refused in answer.get("Errors", []):
            status = {"AccessDenied": 403}.get(refused.get("Code"), 500)
            raise refusal(status, refused.get("Code", ""), f"{refused.get('Key')}: {refused.get('Message')}")

    async def _request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        bucket, _, key = path.partition("/")
        answer: dict[str, Any] = await self._s3._call_s3(
            method, Bucket=bucket, **({"Key": key} if key else {}), **arguments
        )
        return answer

    def _call(self, seconds: float, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        with _explained():
            return wait(self._s3.loop, self._request(method, path, **arguments), seconds)


class FilesystemObjects:
    """`Objects` by any other fsspec filesystem. Its client may retry by itself, within the time limit."""

    def __init__(self, filesystem: Any, scheme: str) -> None:
        self._filesystem, self._scheme = filesystem, scheme

    def head(self, path: str, seconds: float) -> Head:
        info = self._info(path, seconds)
        if info["type"] == "directory":
            raise FileNotFoundError(path)
        return Head(int(info["size"]), info.get("etag") or info.get("ETag"))

    def is_folder(self, path: str, seconds: float) -> bool:
        try:
            return bool(self._info(path, seconds)["type"] == "directory")
        except FileNotFoundError:
            return False

    def get(self, path: str, start: int, end: int | None, seconds: float) -> Part:
        return Part(bytes(self._run(seconds, "cat_file", self._own(path), start=start, end=end)))

    def put(self, path: str, data: bytes, exclusive: bool, seconds: float) -> None:
        self._run(seconds, "pipe_file", self._own(path), data, mode="create" if exclusive else "overwrite")

    def put_file(self, path: str, local_path: Path, seconds: float) -> None:
        self._run(seconds, "put_file", str(local_path), self._own(path))

    def page(self, path: str, after: str | None, seconds: float) -> tuple[list[str], str | None]:
        self._filesystem.invalidate_cache()
        return [found.removeprefix("/") for found in self._run(seconds, "find", self._own(path))], None

    def delete(self, paths: Sequence[str], seconds: float) -> None:
        left = remaining(seconds)
        for path in paths:
            try:
                self._run(left(), "rm_file", self._own(path))
            except FileNotFoundError:
                continue  # An earlier try got so far.

    def _own(self, path: str) -> str:
        return str(self._filesystem._strip_protocol(f"{self._scheme}://{path}"))

    def _info(self, path: str, seconds: float) -> dict[str, Any]:
        self._filesystem.invalidate_cache()
        info: dict[str, Any] = self._run(seconds, "info", self._own(path))
        return info

    def _run(self, seconds: float, method: str, *arguments: Any, **options: Any) -> Any:
        call: Callable[..., Any]
        with _explained():
            if self._filesystem.async_impl:
                call = getattr(self._filesystem, f"_{method}")
                return wait(self._filesystem.loop, call(*arguments, **options), seconds)
            call = getattr(self._filesystem, method)
            return call(*arguments, **options)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn a client's error into one of `Objects`."""
    try:
        yield
    except Exception as error:
        told = _translated(error)
        if told is error or told is None:
            raise
        # Without its origin, whose text may hold more than the user should see.
        raise told from None


def _translated(error: Exception) -> OSError | None:
    """None: no failure of the storage, but a defect."""
    answers = [link for link in _chain(error) if isinstance(getattr(link, "response", None), dict)]
    if answers and "Error" in (response := answers[0].response):
        told, meta = response["Error"], response.get("ResponseMetadata", {})
        code = str(told.get("Code", ""))
        status = int(meta.get("HTTPStatusCode") or (code if code.isdigit() else 400))
        return refusal(status, code, str(told.get("Message", "")))
    answered = getattr(error, "status", getattr(error, "code", None))  # aiohttp's, gcsfs'
    if type(answered) is int and answered >= 400:
        return refusal(answered, "", str(error))
    if isinstance(error, TransientError | ExpiredError | FileNotFoundError | FileExistsError | PermissionError):
        return error
    if type(error).__name__ == "FlexibleChecksumError":
        return TransientError("damaged", str(error))
    if _is_any(error, _RENEWABLE):
        return ExpiredError(str(error))
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return TransientError("timeout", str(error) or "the server was silent for too long")
    if isinstance(error, ConnectionError) or _is_any(error, _TRANSIENT):
        cause = "truncated" if "Payload" in type(error).__name__ + str(error) else "connection"
        return TransientError(cause, str(error) or type(error).__name__)
    if isinstance(error, OSError):
        return error
    if isinstance(error, ValueError) and "Invalid endpoint" in str(error):
        return OSError("the server's endpoint_url in ~/.aws/config is not a URL")
    return OSError(str(error)) if _is_any(error, _OTHER) else None


def _chain(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_any(error: Exception, kinds: Mapping[str, tuple[str, ...]]) -> bool:
    loaded = ((sys.modules[module], names) for module, names in kinds.items() if module in sys.modules)
    return any(isinstance(error, getattr(module, name, ())) for module, names in loaded for name in names)
