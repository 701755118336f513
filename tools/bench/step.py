"""Time of a training step on this machine, side by side with a plain PyTorch step on the same images.

    python tools/bench/step.py [--batch 64] [--rounds 5]

Prints JSON. The plain step is what one writes first: Pillow decodes, torch's two interpolations degrade image by
image, the whole batch goes through the network at once, and one 2B × 2B distance matrix is mined. The two take turns,
so that a busy machine slows both; read the ratio, not the seconds.
"""

import argparse
import io
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image
from support.measure import describe_machine, ratio, take_turns
from support.training import engine_of
from torch import Tensor

import octoscale
from octoscale.data.importers.synthetic import write_synthetic_faces
from octoscale.data.index import Index
from octoscale.data.loader import load_batches
from octoscale.data.pack import pack
from octoscale.data.plan import epoch_plan
from octoscale.data.reader import ImageReader
from octoscale.distributed.world import World
from octoscale.models import FaceNetwork, load, set_training
from octoscale.step import StepConfig, training_step

MARGIN = 25.0
CPU = torch.device("cpu")


def plain_loss(high: Tensor, low: Tensor, identities: Tensor) -> Tensor:
    """Batch-hard octuplet loss from one matrix of all distances, differentiated through torch.cdist."""
    count = len(high)
    both = torch.cat([high, low])
    distances = torch.cdist(both, both)
    same = identities[:, None] == identities[None, :]
    own = torch.eye(count, dtype=torch.bool)
    loss = high.new_zeros(())
    for rows in (slice(0, count), slice(count, None)):
        for columns in (slice(0, count), slice(count, None)):
            block = distances[rows, columns]
            positive = block.masked_fill(~same | own, -torch.inf).amax(1)
            negative = block.masked_fill(same, torch.inf).amin(1)
            loss = loss + (positive - negative + MARGIN).clamp_min(0).mean()
    return loss


def plain_step(
    network: FaceNetwork,
    optimizer: torch.optim.Optimizer,
    files: list[bytes],
    identities: Tensor,
    resolutions: list[int],
) -> None:
    """The step without octoscale; the network's layers are the same."""
    decoded = [torch.from_numpy(np.array(Image.open(io.BytesIO(file)).convert("RGB"))) for file in files]
    high = torch.stack(decoded).permute(0, 3, 1, 2).float().contiguous()
    low = torch.cat([degraded(image[None], r) for image, r in zip(high, resolutions, strict=True)])
    mean, std = network.mean, network.std
    embeddings = network.backbone((torch.cat([high, low]) - mean) / std)
    high_embeddings, low_embeddings = embeddings.chunk(2)
    loss = plain_loss(high_embeddings, low_embeddings, identities)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def degraded(image: Tensor, resolution: int) -> Tensor:
    size = image.shape[-1]
    down = F.interpolate(image, size=(resolution, resolution), mode="bicubic", antialias=True)
    return F.interpolate(down, size=(size, size), mode="bicubic", antialias=True).clamp(0, 255).floor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="mobilefacenet")
    arguments = parser.parse_args()

    machine = describe_machine(CPU)
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic_faces(Path(folder, "faces"), identities=arguments.batch, images_per_identity=4)
        pack(str(Path(folder, "faces", "train")), str(Path(folder, "packed")))
        index = Index.load(Path(folder, "packed"))
        reader = ImageReader(index, Path(folder, "packed"))
        plan = epoch_plan(index.images_per_identity, global_batch_size=arguments.batch, seed=0, epoch=0)[:1]
        sources = sorted(Path(folder, "faces", "train").glob("*/*.jpg"))
        files = [sources[sample_id].read_bytes() for sample_id in plan[0]]

        network, peer = load(arguments.model), load(arguments.model)
        peer.load_state_dict(network.state_dict())
        set_training(peer, "frozen")
        engine = engine_of(network, World())
        optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4)
        identities = torch.from_numpy(index.identity_of(plan[0]))
        resolutions = [(7, 14, 28)[i % 3] for i in range(arguments.batch)]

        def ours() -> None:
            batch = next(load_batches(reader, plan, workers=0))
            training_step(batch, engine, StepConfig(), World(), seed=0, epoch=0, learning_rate=1e-4)

        def plain() -> None:
            plain_step(peer, optimizer, files, identities, resolutions)

        calls = {"octoscale": ours, "plain": plain}
        for call in calls.values():
            call()
        seconds = take_turns(calls, CPU, rounds=arguments.rounds, budget_seconds=600)
    print(
        json.dumps(
            {
                "batch": arguments.batch,
                "model": arguments.model,
                "octoscale_step_seconds_median": round(statistics.median(seconds["octoscale"]), 3),
                "plain_step_seconds_median": round(statistics.median(seconds["plain"]), 3),
                "plain_over_octoscale": ratio(seconds["plain"], seconds["octoscale"]),
                "rounds": len(seconds["plain"]),
                "versions": {"octoscale": octoscale.__version__, "torch": torch.__version__, "pillow": PIL.__version__},
                "machine": machine,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
