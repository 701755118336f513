"""What ties the cost model to machines that were measured: counts of the loss, and a published rate of one network."""

from dataclasses import replace
from typing import Any

from support.cost_model import Search, roofline_seconds
from support.hardware import H100, H200, PUBLISHED_V100_IRESNET50, V100, Hardware
from support.network_cost import NetworkCost

# What `count_exchange` of `scaling_model.py` found with one to four ranks of 256 rows, d = 512.
COUNTED = Search(fetched_share=0.28, own_segments=1.26, block_segments=0.99, own_launches=1_766, block_launches=2_852)


def published(iresnet50: NetworkCost) -> dict[str, Any]:
    """How much of the V100's roofline iResNet50 reached where others measured it: one pass, one resolution."""
    ideal = 1 / (roofline_seconds(iresnet50.forward, V100) + roofline_seconds(iresnet50.backward, V100))
    measured = float(PUBLISHED_V100_IRESNET50["images_per_second"])  # type: ignore[arg-type]
    return {
        "network": iresnet50.name,
        "device": V100.name,
        "source": PUBLISHED_V100_IRESNET50["source"],
        "images_per_second": measured,
        "roofline_images_per_second": round(ideal, 1),
        "efficiency": round(measured / ideal, 3),
    }


def calibrated(iresnet50: NetworkCost) -> list[Hardware]:
    """H100 and H200, of whose rooflines networks are taken to reach as much as on the V100."""
    efficiency = float(published(iresnet50)["efficiency"])
    return [replace(device, efficiency=efficiency) for device in (H100, H200)]
