"""The settings of the data path."""

from pydantic import Field

from octoscale.settings import Settings


class DataConfig(Settings):
    """Which data, and how it is read.

    Attributes:
        url: a packed data set (see ``octoscale pack``): a local folder, ``s3://…`` or ``gs://…``.
        cache_dir: where a remote data set is kept on each node.
        workers: processes per rank that read and decode; 0 does it in the training process.
    """

    url: str
    cache_dir: str = "~/.cache/octoscale"
    workers: int = Field(default=0, ge=0)
