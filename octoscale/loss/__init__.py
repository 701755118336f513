"""The octuplet loss. Needs torch and nothing else, and can be used without the rest of octoscale."""

from octoscale.loss.mining import TERMS
from octoscale.loss.octuplet import Octuplet, OctupletLoss, TermResult, octuplet, octuplet_loss
from octoscale.loss.triplets import Triplets

__all__ = ["TERMS", "Octuplet", "OctupletLoss", "TermResult", "Triplets", "octuplet", "octuplet_loss"]
