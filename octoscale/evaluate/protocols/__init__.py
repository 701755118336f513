"""Published lists of face pairs, each in its own form, read into one: `Pairs` and their images."""

from octoscale.evaluate.protocols.pairs import Pairs
from octoscale.evaluate.protocols.registry import first_image, load_pairs

__all__ = ["Pairs", "first_image", "load_pairs"]
