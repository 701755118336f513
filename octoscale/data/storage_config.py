"""How the object store is reached: server, client, time limits and parallelism; never credentials."""

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from octoscale.errors import OctoscaleError
from octoscale.settings import Settings

S3_SCHEMES = ("s3", "s3a")
OBSTORE_SCHEMES = (*S3_SCHEMES, "gs", "az", "azure", "abfs", "abfss")
_LOCAL_SCHEMES = ("file", "local")
# A password may hold a "/"; a port followed by a path may have an "@" in that.
_PASSWORD = re.compile(r"^([^/]*://)[^/@]*:(?!\d+(?:/|$)).*@")


class StorageConfig(Settings):
    """The client of an object store; a local folder uses none of it.

    Keys and tokens have no place here: they come from the provider's usual chain (environment, profile,
    ``~/.aws``, the machine's role), so that no dump of a configuration, log or error message can show them.
    """

    # pydantic's messages would else quote an endpoint's password.
    model_config = ConfigDict(hide_input_in_errors=True)

    backend: Literal["fsspec", "obstore"] = Field(
        "fsspec",
        description="The client: fsspec (s3fs, gcsfs, adlfs), or the faster obstore for s3://, gs:// and az://.",
    )
    endpoint_url: str | None = Field(
        None, description="The URL of an S3-compatible server; none = the usual AWS chain (AWS_ENDPOINT_URL, profile)."
    )
    timeout_seconds: float = Field(
        20.0, gt=0, description="The longest wait for a connection, and the longest silence while reading."
    )
    deadline_seconds: float = Field(
        300.0, gt=0, description="How long an operation is tried again without getting on, from its last part on."
    )
    part_bytes: int = Field(
        8 * 2**20, ge=2**16, le=2**28, description="The length of the ranges in which large objects are fetched."
    )
    connections: int = Field(16, ge=1, le=256, description="Parallel requests per process.")

    @field_validator("endpoint_url")
    @classmethod
    def _is_a_server(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError("not a URL; give http://host:port or https://host") from None
        if "@" in parts.netloc:
            # A type of its own, for whoever prints pydantic's errors: the input must not be shown.
            raise PydanticCustomError(
                "secret", "holds a user or a password; give them in the environment or in ~/.aws/credentials"
            )
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query:
            raise ValueError("not the URL of a server; give http://host:port or https://host")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _leaves_time_for_one_try(self) -> Self:
        if self.deadline_seconds < self.timeout_seconds:
            raise ValueError(
                f"deadline_seconds {self.deadline_seconds:g} is shorter than timeout_seconds {self.timeout_seconds:g}; "
                "raise the one or lower the other"
            )
        return self

    def over(self, other: "StorageConfig") -> "StorageConfig":
        """The settings that were given here, and the rest of `other`.

        Raises:
            OctoscaleError: they do not go together.
        """
        values = other.model_dump() | self.model_dump(exclude_unset=True)
        try:
            return StorageConfig.model_validate(values)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise OctoscaleError(f"of the storage settings given and the run's own, {message}") from error

    def check(self, url: str) -> None:
        """Refuse what this configuration cannot do for `url`, rather than ignore a setting.

        Raises:
            OctoscaleError: a password in the URL, an endpoint for another provider than S3,
                or a scheme that the backend does not know.
        """
        if _PASSWORD.match(url):
            raise OctoscaleError(
                f"{redacted(url)} holds a password; give credentials in the environment or in ~/.aws/credentials"
            )
        if is_local(url):
            return
        scheme = scheme_of(url)
        if self.endpoint_url is not None and scheme not in S3_SCHEMES:
            raise OctoscaleError(
                f"endpoint_url {self.endpoint_url} is for s3:// alone and {url} is not; leave endpoint_url out"
            )
        if self.backend == "obstore" and scheme not in OBSTORE_SCHEMES:
            raise OctoscaleError(f"backend 'obstore' knows s3://, gs:// and az://, not {url}; use backend 'fsspec'")


def scheme_of(url: str) -> str:
    return url.split("://", 1)[0] if "://" in url else "file"


def is_local(url: str) -> bool:
    return scheme_of(url) in _LOCAL_SCHEMES


def redacted(url: str) -> str:
    """`url` without the user and the password it may hold."""
    return _PASSWORD.sub(r"\1***@", url)


def refuse_for_local(storage: StorageConfig | None, *places: str | None) -> None:
    """Refuse settings of `--storage` where every one of `places`, paths and URLs, is local: they would be ignored.

    Raises:
        OctoscaleError: they would.
    """
    if storage is not None and all(place is None or is_local(place) for place in places):
        keys, named = ", ".join(sorted(storage.model_fields_set)), ", ".join(filter(None, places))
        raise OctoscaleError(f"--storage {keys} is of object storage, and {named} is local; leave it out")
