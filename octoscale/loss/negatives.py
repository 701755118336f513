"""Which negative an anchor gets: the paper's hardest one, or one that survives label noise."""

import re
from dataclasses import dataclass

from octoscale.errors import OctoscaleError

_FORM = re.compile(r"(\w+)(?:\(([^()]*)\))?")
FORMS = ("hardest", "top_k_mean(k)", "rank(k)", "semihard", "positive_aware(alpha)")


@dataclass(frozen=True)
class Negatives:
    """A rule for choosing negatives.

    Attributes:
        count: how many of the nearest allowed negatives are looked for.
        mean: whether all of them are used, and their distances averaged; else the last of them is.
        factor: only negatives farther than this times the positive's distance are allowed (None: all).
        strict: whether a negative at exactly that distance is too near.
    """

    count: int = 1
    mean: bool = False
    factor: float | None = None
    strict: bool = False

    @classmethod
    def parse(cls, text: str) -> "Negatives":
        """A rule from its name.

        `hardest`: the nearest (paper, Eq. 6). `rank(k)`: the k-th nearest. `top_k_mean(k)`: the mean distance of the
        k nearest. `semihard`: the nearest of those farther than the positive (FaceNet; Schroff et al. 2015, §3.2).
        `positive_aware(alpha)`: the nearest with d(a,n) ≥ alpha · d(a,p): one that is much nearer than
        the positive is likely the anchor's own identity under another label.

        Raises:
            OctoscaleError: no such rule, or its argument is out of range.
        """
        match = _FORM.fullmatch(text.replace(" ", ""))
        name, argument = match.groups() if match else (text, None)
        if name in ("hardest", "semihard") and argument is None:
            return cls() if name == "hardest" else cls(factor=1.0, strict=True)
        try:
            if name in ("top_k_mean", "rank") and int(argument or "") >= 1:
                return cls(count=int(argument or ""), mean=name == "top_k_mean")
            if name == "positive_aware" and 0 < float(argument or "") < float("inf"):
                return cls(factor=float(argument or ""))
        except ValueError:
            pass
        raise OctoscaleError(
            f"unknown rule for negatives {text!r}; use one of {', '.join(FORMS)}, "
            "with an integer k ≥ 1 or a number alpha > 0"
        )
