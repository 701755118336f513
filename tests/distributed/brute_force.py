"""One step written out for one process: the whole batch in the network at once, one matrix of all distances, fp64."""

import torch
from torch import Tensor, nn

from octoscale.augment import augment
from octoscale.data.loader import Batch
from octoscale.degrade import degrade
from octoscale.models import FaceNetwork, Preprocessing
from octoscale.randomness import uniform
from octoscale.step import StepConfig, draw_resolutions
from tests.unit.loss.brute_force import octuplet

Gradients = dict[str, Tensor]


class Dropout(nn.Module):
    """Dropout whose mask does not depend on the precision of what it masks."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, features: Tensor) -> Tensor:
        kept = torch.rand(features.shape) >= self.probability if self.training else torch.ones(features.shape)
        return features * kept.to(features.dtype) / (1 - self.probability)


def small_network(dropout: float) -> FaceNetwork:
    """Convolution, batch norm with a past, PReLU, dropout, linear: 3 × 16 × 16 ─▶ 6."""
    torch.manual_seed(5)
    # 7 channels: the ranks divide hardly any parameter. No biases that batch statistics or distances do not see: the
    # scale of a gradient of zero is noise.
    norm = nn.BatchNorm2d(7)
    norm.running_mean = torch.randn(7) / 4
    norm.running_var = 0.5 + torch.rand(7)
    backbone = nn.Sequential(
        nn.Conv2d(3, 7, 5, stride=3, bias=False),
        norm,
        nn.PReLU(7),
        nn.Flatten(),
        Dropout(dropout),
        nn.Linear(7 * 16, 6, bias=False),
    )
    return FaceNetwork(backbone, Preprocessing())


def small_batch(size: int = 24) -> Batch:
    """`size` images of 16 px, two of each identity, in which identities can be told apart."""
    generator = torch.Generator().manual_seed(1)
    # Coarse enough to survive the degradation.
    coarse = torch.randint(0, 256, (size // 2, 3, 4, 4), generator=generator).repeat_interleave(2, dim=0)
    faces = coarse.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    high = (faces + torch.randint(-40, 41, faces.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    return Batch(high, torch.arange(size // 2).repeat_interleave(2), torch.arange(100, 100 + size))


def part_of(batch: Batch, rank: int, world_size: int) -> Batch:
    return Batch(*(rows.chunk(world_size)[rank] for rows in (batch.high, batch.identities, batch.sample_ids)))


def rows_together(size: int, world_size: int, micro_batch_size: int | None, *, synchronised: bool) -> list[list[int]]:
    """Which rows of the global batch are in the network together: chunks of ranks, or one chunk of all ranks."""
    rank_size = size // world_size
    step = micro_batch_size or rank_size
    starts = range(0, rank_size, step)
    chunks = [
        [[rank * rank_size + row for row in range(start, min(start + step, rank_size))] for rank in range(world_size)]
        for start in starts
    ]
    if synchronised:
        return [[row for rank in chunk for row in rank] for chunk in chunks]
    return [rank for chunk in chunks for rank in chunk]


def brute_force(
    network: FaceNetwork, batch: Batch, together: list[list[int]], config: StepConfig, *, seed: int, epoch: int
) -> tuple[float, Gradients]:
    """Loss and gradients of the global batch; `network` is in fp64 and in training mode."""
    embeddings: list[list[Tensor]] = [[torch.empty(0)] * len(batch.high) for _ in range(2)]
    for rows in together:
        sample_ids = batch.sample_ids[rows].numpy()
        high = augment(batch.high[rows], config.augment, seed=seed, epoch=epoch, sample_ids=sample_ids)
        resolutions = draw_resolutions(config.degrade.resolutions, seed=seed, epoch=epoch, sample_ids=sample_ids)
        low = degrade(high, resolutions)
        torch.manual_seed(int(uniform("torch", seed, epoch, sample_ids[:1])[0] * 2**53))
        both = network(torch.cat([high, low]))
        for place, row in enumerate(rows):
            embeddings[0][row], embeddings[1][row] = both[place], both[len(rows) + place]
    high, low = (torch.stack(rows) for rows in embeddings)
    loss, _ = octuplet(high, low, batch.identities, margin=config.loss.margin, terms=config.loss.terms)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
