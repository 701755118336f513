"""The state of a run on any storage: committed whole or not at all, verified when it is read.

Object stores have no rename, so nothing is ever written in place. A commit of step N by attempt A is

    step-N-A-TOKEN/…              parts, written by torch.distributed.checkpoint, under a name never used again
    step-N-A-TOKEN/manifest.json  size and SHA-256 of each part, and the run's record
    commits/N-A.json              written last, and only if it does not exist: the commit point
"""

from octoscale.checkpoint.checkpoints import Checkpoints
from octoscale.checkpoint.config import CheckpointConfig
from octoscale.checkpoint.interval import CommitInterval
from octoscale.checkpoint.layout import Commit, DamagedError, FencedError, Position, best_of

__all__ = [
    "CheckpointConfig",
    "Checkpoints",
    "Commit",
    "CommitInterval",
    "DamagedError",
    "FencedError",
    "Position",
    "best_of",
]
