"""The settings of the data path."""

from typing import Literal

from pydantic import ByteSize, Field, model_validator

from octoscale.settings import Settings


class DataConfig(Settings):
    """Which data, and how it is read.

    Attributes:
        url: a packed data set (see ``octoscale pack``): a local folder, ``s3://…`` or ``gs://…``.
        cache_dir: where a remote data set, or what is needed of it, is kept on each node; and the plans.
        cache_bytes: how much of a remote data set is kept there at a time (``200GiB``); None keeps all of it.
        mode: `resident` draws every batch from the whole data set, which the node's disk must hold; `windowed` from a
            moving window of shards, for data sets that are larger.
        window_fraction: of the images, that are in the window at a time; `windowed` only, 0.1 by default.
        workers: processes per rank that read and decode; 0 does it in a thread of the training process.
    """

    url: str
    cache_dir: str = "~/.cache/octoscale"
    cache_bytes: ByteSize | None = Field(default=None, gt=0)
    mode: Literal["resident", "windowed"] = "resident"
    window_fraction: float | None = Field(default=None, gt=0, le=1)
    workers: int = Field(default=0, ge=0)

    @property
    def window(self) -> float | None:
        """The window's fraction of the images; None in `resident` mode."""
        if self.mode == "resident":
            return None
        return 0.1 if self.window_fraction is None else self.window_fraction

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "DataConfig":
        if self.mode == "resident" and self.window_fraction is not None:
            raise ValueError("window_fraction applies to mode=windowed; drop it or set data.mode=windowed")
        if self.mode == "resident" and self.cache_bytes is not None:
            raise ValueError(
                "cache_bytes applies to mode=windowed, as resident mode keeps the whole data set; "
                "drop it or set data.mode=windowed"
            )
        return self
