"""The number that a study predicts, as people mean it: of a logarithm, what it is one of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.report.formats import called


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What the target is, and whether the networks predict its natural logarithm."""

    target: str
    is_log: bool

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> "Quantity":
        """That of a study with this summary (`study.json`)."""
        data = summary.get("data") or {}
        return cls(target=str(data.get("target") or "value"), is_log=bool(data.get("log_target")))

    @property
    def name(self) -> str:
        """`price` where the networks predict `log price`."""
        return called(self.target.removeprefix("log ") if self.is_log else self.target)

    @property
    def of_scores(self) -> str:
        """That errors are those of a logarithm; empty where they are of the quantity itself."""
        if not self.is_log:
            return ""
        return (
            f"Errors and scores are of the natural logarithm of {self.name}: an absolute error of "
            "0.1 is one of about 10%."
        )

    def meant(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quantity itself; infinite where it is too large for a number."""
        with np.errstate(over="ignore"):
            return np.exp(values) if self.is_log else values

    def shown(self, value: float) -> float | None:
        """Four digits, which a caption has room for; None for what is not finite."""
        meant = float(self.meant(np.array(value, dtype=np.float64)))
        return float(f"{meant:.4g}") if math.isfinite(meant) else None
