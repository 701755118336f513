"""What the ranks tell each other: who is where, whole blocks in turn, single rows on request, and answers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

# Told what the work inside its block is: a clock's method.
Phase = Callable[[str], AbstractContextManager[None]]


def untimed(phase: str) -> AbstractContextManager[None]:
    """No clock."""
    return nullcontext()


class Exchange:
    """The ranks of `group`, each with `rows` rows of the global batch; a single process without a group.

    Every method is called by all ranks together. Rank r owns rows r·rows … (r+1)·rows − 1.

    Attributes:
        sent_bytes: what this rank has sent to others.
    """

    def __init__(self, group: dist.ProcessGroup | None, rows: int, phase: Phase = untimed) -> None:
        self.group = group
        self.rows = rows
        self.sent_bytes = 0
        self._phase = phase
        self.world_size = 1 if group is None else dist.get_world_size(group)
        self.rank = 0 if group is None else dist.get_rank(group)
        self.first = self.rank * rows
        # The half ring: how far ahead the ranks are that this one visits, and behind those that visit it.
        self._hops = range(1, self.world_size // 2 + 1)

    def gather(self, values: Tensor) -> Tensor:
        """Every rank's `values`, equal in shape: [W, *values.shape]."""
        if self.group is None:
            return values[None]
        gathered = values.new_empty((self.world_size, *values.shape))
        with self._phase("exchange"):
            dist.all_gather(list(gathered.unbind()), values.contiguous(), group=self.group)
        self.sent_bytes += (self.world_size - 1) * values.nbytes
        return gathered

    def visits(self, own: Sequence[Tensor]) -> Iterator[tuple[int, list[Tensor]]]:
        """(Owner, its tensors) of the next ⌊W/2⌋ ranks, the half ring; the following ones are on their way meanwhile.

        Any two ranks meet in this way, once; opposite ones of an even number meet on both sides.
        """
        arriving = self._start(own, 1) if self._hops else None
        for hop in self._hops:
            assert arriving is not None
            blocks, works = arriving
            with self._phase("exchange"):
                for work in works:
                    work.wait()
            arriving = self._start(own, hop + 1) if hop + 1 in self._hops else None
            yield (self.rank + hop) % self.world_size, blocks

    def _start(self, own: Sequence[Tensor], hop: int) -> tuple[list[Tensor], list[dist.Work]]:
        assert self.group is not None
        towards, source = (
            dist.get_global_rank(self.group, (self.rank + step) % self.world_size) for step in (-hop, hop)
        )
        blocks = [torch.empty_like(tensor) for tensor in own]
        operations = [dist.P2POp(dist.isend, tensor.contiguous(), towards, self.group) for tensor in own]
        operations += [dist.P2POp(dist.irecv, block, source, self.group) for block in blocks]
        self.sent_bytes += sum(tensor.nbytes for tensor in own)
        return blocks, dist.batch_isend_irecv(operations)

    def deliver(self, for_rank: dict[int, Tensor], like: Tensor) -> list[Tensor]:
        """Give each visited rank its answer; get the answers of the ranks that this one visited.

        Args:
            for_rank: the answers to the ranks of the half ring, each of the shape and type of `like`.
        """
        if self.group is None:
            return []
        visited = {(self.rank + hop) % self.world_size for hop in self._hops}
        visitors = {(self.rank - hop) % self.world_size for hop in self._hops}
        sent = [like.numel() if rank in visited else 0 for rank in range(self.world_size)]
        received = [like.numel() if rank in visitors else 0 for rank in range(self.world_size)]
        assert for_rank.keys() == visited
        parts = [for_rank[rank].flatten() for rank in sorted(visited)]
        answers = self._all_to_all(torch.cat(parts), sent, received)
        return [answer.view_as(like) for answer in answers.split([size for size in received if size])]

    def fetch(self, ids: Tensor, source: Tensor) -> "Fetched":
        """Rows of other ranks.

        Args:
            ids: int64 [n], rows of the global batch, ascending, none of them this rank's own.
            source: [rows, d], this rank's rows, for the others.
        """
        if self.group is None:
            assert not len(ids)
            return Fetched(self, ids, source[:0], ids, [0], [0])
        wanted = torch.bincount(ids // self.rows, minlength=self.world_size)
        asked = torch.empty_like(wanted)
        with self._phase("exchange"):
            dist.all_to_all_single(asked, wanted, group=self.group)
            wanted_sizes, asked_sizes = wanted.tolist(), asked.tolist()
        asked_ids = self._all_to_all(ids, wanted_sizes, asked_sizes) - self.first
        rows = self._all_to_all(source[asked_ids], asked_sizes, wanted_sizes)
        return Fetched(self, ids, rows, asked_ids, wanted_sizes, asked_sizes)

    def _all_to_all(self, values: Tensor, sent: list[int], received: list[int]) -> Tensor:
        output = values.new_empty((sum(received), *values.shape[1:]))
        with self._phase("exchange"):
            dist.all_to_all_single(output, values.contiguous(), received, sent, group=self.group)
        self.sent_bytes += sum(sent) * values[:1].nbytes
        return output


@dataclass(frozen=True)
class Fetched:
    """Rows of other ranks, and the way back to them.

    Attributes:
        ids: int64 [n], ascending, rows of the global batch.
        rows: [n, d].
    """

    exchange: Exchange
    ids: Tensor
    rows: Tensor
    asked: Tensor
    wanted_sizes: list[int]
    asked_sizes: list[int]

    def give_back(self, gradients: Tensor, total: Tensor) -> None:
        """Return the gradients [n, d] of the fetched rows to their owners; add what arrives to `total` [rows, d]."""
        if self.exchange.group is not None:
            total.index_add_(0, self.asked, self.exchange._all_to_all(gradients, self.wanted_sizes, self.asked_sizes))
