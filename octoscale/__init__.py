"""octoscale: makes any face recognition network robust to image resolution, at any batch size.

Importing it needs torch alone; everything beyond the loss is imported where it is used.
"""

from octoscale.loss import OctupletLoss, octuplet_loss

__version__ = "0.1.0"
__all__ = ["OctupletLoss", "__version__", "octuplet_loss"]
