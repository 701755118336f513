"""The octuplet loss. Needs torch and nothing else, and can be used without the rest of octoscale."""

from octoscale.loss.octuplet import TERMS, Octuplet, OctupletLoss, TermResult, Triplets, octuplet, octuplet_loss

__all__ = ["TERMS", "Octuplet", "OctupletLoss", "TermResult", "Triplets", "octuplet", "octuplet_loss"]
