"""What a step costs at any batch size and number of ranks: the formulas of docs/scaling.md.

B is the global batch in images (each counted once, though it is embedded at two resolutions), W the number of ranks,
n = B/W the rows of a rank, d the length of an embedding, all embeddings fp32.
"""

import math
from dataclasses import dataclass

from support.hardware import Hardware
from support.network_cost import NetworkCost, Op

FP32 = 4
KEY = 8  # int64: (squared distance, row)
TERMS = 4
SIDES = 2
RESOLUTIONS = 2
FRAME_BYTES = 1_870
# Rows of other ranks that the search takes at once, on a GPU: the `party` of octoscale.loss.mining.Tiling.
PARTY = 16_384
_COARSE_PARTS = 3
_COARSE_BYTES = 2


@dataclass(frozen=True)
class Search:
    """What was counted in the loss where it ran, and holds on other machines (`tools/bench/scaling_model.py` counts).

    Attributes:
        fetched_share: rows that a rank fetches ÷ the most it could (2n (1 − 1/W) per side).
        own_segments: segments that are searched in a rank's own block, per anchor and term.
        block_segments: in the block of each other rank.
        own_launches: operations of the loss with one rank.
        block_launches: operations more for a block of another rank that a rank meets alone; half as many for one that
            both search, the opposite rank's of an even number.
    """

    fetched_share: float
    own_segments: float
    block_segments: float
    own_launches: float
    block_launches: float

    def segments(self, ranks: int) -> float:
        """Searched per anchor and term, on whatever rank."""
        return self.own_segments + (ranks - 1) * self.block_segments

    def launches(self, rows: int, ranks: int) -> float:
        """Of the loss on each of `ranks` ranks."""
        return self.own_launches + parties(rows, ranks) * self.block_launches


# --- Bytes, per rank and step -----------------------------------------------------------------------------------


def hops(ranks: int) -> int:
    """⌊W/2⌋, the blocks of other ranks that each rank meets."""
    return ranks // 2


def parties(rows: int, ranks: int) -> float:
    """How often a rank searches blocks of others, several at once; the opposite rank's alone, and half of it."""
    together = max(1, PARTY // rows)
    return math.ceil((ranks - 1) // 2 / together) + (0.5 if ranks % 2 == 0 else 0)


def ring_bytes(batch: int, dim: int, ranks: int) -> int:
    """Sent by a rank: its high and low rows, once for each hop: ⌊W/2⌋ · 2 · n · d · 4, which is 4Bd for even W."""
    return hops(ranks) * SIDES * (batch // ranks) * dim * FP32


def answer_bytes(batch: int, ranks: int) -> int:
    """Sent by a rank: keys of the nearest negative, four terms, to each rank it visited: ⌊W/2⌋ · 4 · n · 8."""
    return hops(ranks) * TERMS * (batch // ranks) * KEY


def gather_bytes(batch: int, ranks: int) -> int:
    """Sent by a rank: nine facts in fp64 and n identities (int64), to all others."""
    return (ranks - 1) * (9 * 8 + 8 * (batch // ranks))


def fetched_rows(batch: int, ranks: int, share: float) -> float:
    """Rows of both sides that a rank fetches: at most two negatives per anchor and side, of which 1/W are its own.

    With two images per identity, side by side, positives are always a rank's own. `share` < 1, since anchors share
    negatives.
    """
    return share * SIDES * 2 * (batch // ranks) * (1 - 1 / ranks)


def fetch_bytes(batch: int, dim: int, ranks: int, share: float) -> float:
    """Sent by a rank, on average: for each fetched row its id, the row, and its gradient on the way back; W counts."""
    counts = SIDES * 8 * ranks if ranks > 1 else 0
    return fetched_rows(batch, ranks, share) * (8 + 2 * dim * FP32) + counts


def exchange_bytes(batch: int, dim: int, ranks: int, share: float) -> float:
    """Sent by a rank for the loss of one step."""
    return (
        ring_bytes(batch, dim, ranks)
        + answer_bytes(batch, ranks)
        + gather_bytes(batch, ranks)
        + fetch_bytes(batch, dim, ranks, share)
    )


def gradient_bytes(trained: int, ranks: int) -> float:
    """Sent by a rank in a ring all-reduce of fp32 gradients: 2 (W − 1)/W · 4 · parameters."""
    return 2 * (ranks - 1) / ranks * FP32 * trained


def state_bytes(network: NetworkCost) -> int:
    """Tensors of the state under DDP: the model, AdamW's two moments; a few scalars are left out."""
    return FP32 * network.parameters + network.buffers_bytes + 2 * FP32 * network.trained


def checkpoint_bytes(network: NetworkCost) -> int:
    """Files of one commit: the state, and what torch.distributed.checkpoint adds to each tensor, 1.87 kB (measured)."""
    return state_bytes(network) + FRAME_BYTES * network.state_tensors


# --- Work, per rank and step ------------------------------------------------------------------------------------


def searched_pairs(batch: int, ranks: int) -> float:
    """Pairs whose coarse distance a rank computes: 2B²/W. High-high and low-low once each, high-low once."""
    return 2 * batch * batch / ranks


def coarse_width(dim: int) -> int:
    """Numbers in a coarse row: d, half the squared norm and ones in three parts each, rounded up to eight."""
    return -(-(dim + 2 * _COARSE_PARTS) // 8) * 8


def search_flops(batch: int, dim: int, ranks: int) -> float:
    """Of the coarse products: 2B²/W · 2k, which is 4B²d/W but for the norms."""
    return searched_pairs(batch, ranks) * 2 * coarse_width(dim)


def segment(rows: int) -> int:
    """Candidates that share one bound, about √n (on a GPU at least 128)."""
    return max(128, int(2 ** min(10, max(4, round(rows.bit_length() / 2)))))


def refinement_flops(batch: int, dim: int, ranks: int, segments_per_anchor: float) -> float:
    """Of the fp32 products in the most promising segments: n · 4 · segments · √n · 2d."""
    rows = batch // ranks
    return rows * TERMS * segments_per_anchor * segment(rows) * 2 * dim


def step_flops(network: NetworkCost, rows: int, *, two_passes: bool) -> float:
    """Of the network for n rows: both resolutions, forward, backward, and forward once more with two passes."""
    forward = network.forward_flops * (2 if two_passes else 1)
    return RESOLUTIONS * rows * (forward + network.backward_flops)


def roofline_seconds(ops: tuple[Op, ...], hardware: Hardware) -> float:
    """Of one image: each kernel as long as its products or its memory traffic take, whichever is longer."""
    ideal = sum(max(op.flops / hardware.flops, op.bytes / hardware.memory_bytes_per_second) for op in ops)
    return ideal / hardware.efficiency


# --- Seconds ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepCost:
    """One step of one rank, in seconds and bytes; no part overlaps another but blocks on their way in the half ring.

    Attributes:
        network: forward and backward passes.
        mining: search and refinement, of which the host's launches may be the longer part.
        exchange: waiting for blocks, rows, gradients of rows and answers.
        all_reduce: of the network's gradients.
        sent_bytes: by a rank for the loss.
        device_bytes: the memory of a rank.
        host_bytes: images of this and of four batches kept ready.
    """

    batch: int
    ranks: int
    network: float
    mining: float
    exchange: float
    all_reduce: float
    sent_bytes: float
    device_bytes: float
    host_bytes: float

    @property
    def seconds(self) -> float:
        return self.network + self.mining + self.exchange + self.all_reduce

    @property
    def images_per_second(self) -> float:
        return self.batch / self.seconds


def step_cost(
    network: NetworkCost, hardware: Hardware, search: Search, *, batch: int, ranks: int, micro: int
) -> StepCost:
    """The model of one step. `batch` is a multiple of 2·`ranks`; `micro` images are in the network at a time."""
    assert batch % (2 * ranks) == 0, (batch, ranks)
    rows, dim = batch // ranks, network.dim
    near = ranks <= hardware.per_node
    rate = (hardware.near_bytes_per_second if near else hardware.far_bytes_per_second) * hardware.link_efficiency
    own, others = _mining_seconds(hardware, search, rows, dim, ranks)
    count = hops(ranks)
    hop = SIDES * rows * dim * FP32 / rate + hardware.message_seconds if count else 0.0
    # While one party is searched, one block is on its way.
    searches = parties(rows, ranks)
    hidden = min(max(0, math.ceil(searches) - 1) * hop, others)
    waiting = count * hop - hidden
    rest = exchange_bytes(batch, dim, ranks, search.fetched_share) - ring_bytes(batch, dim, ranks)
    collectives = 11 if ranks > 1 else 0
    # An all-to-all or a gather is W − 1 messages, of which a device starts about a million per second.
    waiting += rest / rate + collectives * (hardware.message_seconds + ranks * 1e-6)
    return StepCost(
        batch=batch,
        ranks=ranks,
        network=_network_seconds(network, hardware, rows, micro),
        mining=own + others,
        exchange=waiting,
        all_reduce=_all_reduce_seconds(network, hardware, ranks),
        sent_bytes=exchange_bytes(batch, dim, ranks, search.fetched_share),
        device_bytes=device_bytes(network, batch=batch, ranks=ranks, micro=micro),
        host_bytes=5 * rows * 3 * 112 * 112,
    )


def _network_seconds(network: NetworkCost, hardware: Hardware, rows: int, micro: int) -> float:
    chunks = math.ceil(rows / micro)
    passes = [network.forward, network.backward] + ([network.forward] if chunks > 1 else [])
    # A kernel cannot start before the host has launched it.
    return sum(
        max(RESOLUTIONS * rows * roofline_seconds(ops, hardware), chunks * len(ops) * hardware.launch_seconds)
        for ops in passes
    )


def _mining_seconds(hardware: Hardware, search: Search, rows: int, dim: int, ranks: int) -> tuple[float, float]:
    """Of a rank's own block, and of the (W − 1)/2 blocks that it meets."""
    coarse_rate = hardware.search_flops * hardware.search_efficiency
    exact_rate = hardware.exact_flops * hardware.search_efficiency
    own = search_flops(rows, dim, 1) / coarse_rate
    own += refinement_flops(rows, dim, 1, search.own_segments) / exact_rate
    # A block has four squares of pairs, twice what a rank's own has; both sides' anchors look for neighbours there.
    block = 2 * search_flops(rows, dim, 1) / coarse_rate
    block += 2 * refinement_flops(rows, dim, 1, search.block_segments) / exact_rate
    launch = hardware.launch_seconds
    others = max((ranks - 1) / 2 * block, parties(rows, ranks) * search.block_launches * launch)
    return max(own, search.own_launches * launch), others if ranks > 1 else 0.0


def _all_reduce_seconds(network: NetworkCost, hardware: Hardware, ranks: int) -> float:
    if ranks == 1:
        return 0.0
    # Every device of a node crosses to the next node over a port of its own.
    far = hardware.far_bytes_per_second * hardware.per_node
    rate = hardware.near_bytes_per_second if ranks <= hardware.per_node else min(hardware.near_bytes_per_second, far)
    messages = 2 * math.ceil(math.log2(ranks)) * hardware.message_seconds
    return gradient_bytes(network.trained, ranks) / (rate * hardware.link_efficiency) + messages


def device_bytes(network: NetworkCost, *, batch: int, ranks: int, micro: int) -> float:
    """Memory of a rank: weights, gradients, DDP's buckets, AdamW; one chunk's activations; the loss."""
    rows, dim = batch // ranks, network.dim
    states = FP32 * network.parameters + network.buffers_bytes + 4 * FP32 * network.trained
    activations = RESOLUTIONS * min(rows, micro) * network.activation_bytes
    wide, coarse = SIDES * rows * dim * FP32, SIDES * rows * coarse_width(dim) * _COARSE_BYTES
    # Embeddings, their projection and gradients; centred and coarse rows, own and the visitors'; the visitors' as they
    # came, and a block on its way.
    visitors = min(max(1, PARTY // rows), max(0, (ranks - 1) // 2)) if ranks > 2 else min(1, ranks - 1)
    loss: float = 3 * wide + (1 + visitors) * (wide + coarse) + (visitors + 1) * wide
    # Bounds of a pair of blocks both ways, rows that were fetched with their gradients, identities of the batch.
    loss += 2 * rows * math.ceil(rows / segment(rows)) * _COARSE_BYTES
    loss += 2 * fetched_rows(batch, ranks, 1.0) * dim * FP32 + 64 * batch
    return states + activations + loss
