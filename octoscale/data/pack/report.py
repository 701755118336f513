"""What was packed or indexed, and everything that was not."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from octoscale.data.importers.source import Excluded
from octoscale.data.index import Manifest
from octoscale.errors import OctoscaleError

REPORT_NAME = "report.json"

# progress(stage, images done, images in all).
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True)
class PackReport:
    """What was packed, and everything that was not. Also written as ``report.json``.

    Attributes:
        unknown_exclusions: lines of the exclusion file that fit nothing in the source.
        held_out: the other part's report, of a packing that splits.
    """

    fingerprint: str
    images: int
    identities: int
    image_size: int
    shards: int
    size_bytes: int
    excluded_images: tuple[Excluded, ...] = ()
    excluded_identities: tuple[Excluded, ...] = ()
    unknown_exclusions: tuple[str, ...] = ()
    held_out: "PackReport | None" = None

    @classmethod
    def of(cls, manifest: Manifest) -> "PackReport":
        """The counts of a data set; nothing is excluded."""
        return cls(
            fingerprint=manifest.fingerprint,
            images=manifest.images,
            identities=manifest.identities,
            image_size=manifest.image_size,
            shards=len(manifest.shards),
            size_bytes=sum(shard.size_bytes for shard in manifest.shards),
        )

    @classmethod
    def parse(cls, data: bytes, where: str) -> "PackReport":
        """A report of one part, from what `dump` wrote.

        Raises:
            OctoscaleError: it is something else.
        """
        try:
            fields = json.loads(data)
            for name in ("excluded_images", "excluded_identities"):
                fields[name] = tuple(Excluded(**item) for item in fields[name])
            return cls(**fields | {"unknown_exclusions": tuple(fields["unknown_exclusions"])})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise OctoscaleError(f"{where} is damaged ({error}); pack again with --overwrite") from error

    def with_held_out(self, held_out: "PackReport | None" = None) -> "PackReport":
        return replace(self, held_out=held_out)

    def dump(self) -> bytes:
        """``report.json``: this part alone."""
        fields = {key: value for key, value in asdict(self).items() if key != "held_out"}
        return (json.dumps(fields, indent=1) + "\n").encode()
