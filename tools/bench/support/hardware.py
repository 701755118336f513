"""What the machines of the cost model can do, and where each figure is from."""

from dataclasses import dataclass, replace

GB, GIB = 1e9, 2**30


@dataclass(frozen=True)
class Hardware:
    """One accelerator (or CPU core) of a node of equal ones; rates in one direction, per device.

    Attributes:
        flops: of the network's precision, per second, at best.
        search_flops: of the coarse products of the mining, per second, at best.
        exact_flops: of fp32 products, per second, at best.
        memory_bytes_per_second: of the device's memory.
        memory_bytes: of the device.
        efficiency: how much of these rates networks reach, both of flops and of bytes.
        search_efficiency: how much of `search_flops` the mining reaches.
        launch_seconds: the host's time for one kernel.
        near_bytes_per_second: to a device of the same node.
        far_bytes_per_second: to a device of another node.
        link_efficiency: how much of both the ranks reach.
        message_seconds: latency of a message.
        per_node: devices of a node.
        host_bytes_per_second: from the device to the host's memory.
        sources: where the figures are from; "assumed" where from nowhere.
    """

    name: str
    flops: float
    search_flops: float
    exact_flops: float
    memory_bytes_per_second: float
    memory_bytes: float
    efficiency: float
    search_efficiency: float
    launch_seconds: float
    near_bytes_per_second: float
    far_bytes_per_second: float
    link_efficiency: float
    message_seconds: float
    per_node: int
    host_bytes_per_second: float
    sources: dict[str, str]


V100 = Hardware(
    name="V100 SXM2 32 GB",
    flops=125e12, search_flops=125e12, exact_flops=15.7e12,
    memory_bytes_per_second=900 * GB, memory_bytes=32 * GB,
    efficiency=1.0, search_efficiency=0.3, launch_seconds=6e-6,
    near_bytes_per_second=150 * GB, far_bytes_per_second=12.5 * GB, link_efficiency=0.8, message_seconds=20e-6,
    per_node=8, host_bytes_per_second=12 * GB,
    sources={
        "flops, memory, near": "NVIDIA V100 data sheet: 125 TFLOP/s tensor, 15.7 fp32, 900 GB/s, NVLink 300 GB/s",
        "rest": "assumed; this profile only serves to compare the roofline with a published rate",
    },
)  # fmt: skip

# arcface_torch, docs/speed_benchmark.md: iResNet50, mixed precision, global batch 1,024 on 8 V100-SXM2-32GB, one pass.
PUBLISHED_V100_IRESNET50 = {
    "images_per_second": 5_300 / 8,
    "source": "insightface arcface_torch, docs/speed_benchmark.md: Partial FC 0.1, 8 × V100-SXM2-32GB",
}

H100 = Hardware(
    name="H100 SXM",
    flops=989e12, search_flops=989e12, exact_flops=67e12,
    memory_bytes_per_second=3_350 * GB, memory_bytes=80 * GB,
    # Set by `calibrated`, from the V100's published rate.
    efficiency=1.0, search_efficiency=0.3, launch_seconds=6e-6,
    near_bytes_per_second=450 * GB, far_bytes_per_second=50 * GB, link_efficiency=0.8, message_seconds=20e-6,
    per_node=8, host_bytes_per_second=50 * GB,
    sources={
        "flops, search_flops": "NVIDIA H100 data sheet: 1,979 TFLOP/s of bf16 and fp16 with sparsity, half of it dense",
        "exact_flops, memory": "NVIDIA H100 data sheet: fp32 67 TFLOP/s, 80 GB at 3.35 TB/s",
        "near": "NVIDIA H100 data sheet: NVLink 900 GB/s in both directions together",
        "far, per_node": "NVIDIA DGX H100 data sheet: 8 GPUs, one 400 Gb/s ConnectX-7 port for each",
        "host": "PCIe 5.0 × 16: 63 GB/s, of which 50 assumed",
        "efficiency": "what iResNet50 reaches of the same roofline on V100, as arcface_torch published it",
        "search_efficiency, launch, link_efficiency, message": "assumed",
    },
)  # fmt: skip

H200 = replace(
    H100,
    name="H200 SXM",
    memory_bytes_per_second=4_800 * GB,
    memory_bytes=141 * GB,
    sources=H100.sources | {"exact_flops, memory": "NVIDIA H200 data sheet: fp32 67 TFLOP/s, 141 GB at 4.8 TB/s"},
)
