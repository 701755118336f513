"""One rank of a trial of the ranks' network: ``python -m octoscale.doctor.ranks BACKEND RANK WORLD_SIZE FOLDER``."""

import os
import socket
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

_TIMEOUT = timedelta(seconds=30)
_NUMBERS = 100_000


def main(backend: str, rank: int, world_size: int, folder: str) -> None:
    """Sum a vector over the ranks, and compare the sum with what it must be."""
    # The loopback is there on every machine; other interfaces are the cluster's.
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend, init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size, timeout=_TIMEOUT
    )
    values = torch.full((_NUMBERS,), float(rank + 1), device=device)
    dist.all_reduce(values)
    expected = world_size * (world_size + 1) / 2
    dist.destroy_process_group()
    if not bool((values == expected).all()):
        sys.exit(f"the sum of {world_size} ranks is {float(values[0])}, not {expected}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
