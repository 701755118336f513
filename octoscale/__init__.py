"""octoscale: makes any face recognition network robust to image resolution, at any batch size.

The loss needs torch alone. It, as everything else, is imported where it is used: torch takes seconds.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octoscale.loss import OctupletLoss, octuplet_loss

__version__ = "0.1.0"
__all__ = ["OctupletLoss", "__version__", "octuplet_loss"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from octoscale import loss

        return getattr(loss, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
