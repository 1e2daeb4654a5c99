"""What a point would probably add to the hypervolume that the best results dominate.

Expected hypervolume improvement (Yang et al., "Efficient computation of expected hypervolume
improvement using box decomposition algorithms", 2019), as BoTorch computes it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.models.model import Model
from botorch.posteriors.posterior import Posterior
from botorch.utils.multi_objective.box_decompositions import NondominatedPartitioning
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from torch import Tensor

from torchstudy.pareto import on_front
from torchstudy.search.cube import Array

LEAST = 1e-300  # below it a gain counts as this: its logarithm must be a number
MARGIN = 0.1  # warped: about as many standard deviations of the results
CHUNK = 256  # points at once: every one is held against every box


@dataclass(frozen=True, slots=True)
class HypervolumeGain:
    """The expected improvement of the hypervolume over a front, for independent normal values."""

    improvement: ExpectedHypervolumeImprovement

    @classmethod
    def over(cls, results: Array) -> "HypervolumeGain":
        """Over the best of `results` (n, m), larger being better in every column.

        What counts as worst is a tenth of the front's range below it (Ishibuchi et al., "How to
        specify a reference point in hypervolume calculation", 2018), or the median of all results
        where that is less: beside a front of one result nothing else would be worth anything.
        """
        front = torch.as_tensor(results[on_front(results)])
        median = torch.as_tensor(np.median(results, axis=0))
        worst = torch.minimum(infer_reference_point(front), median - MARGIN)
        boxes = NondominatedPartitioning(ref_point=worst, Y=front)
        return cls(ExpectedHypervolumeImprovement(_Given(front.shape[1]), worst.tolist(), boxes))

    def logarithms(self, means: Array, spreads: Array) -> Array:
        """Of the expected improvement by values with these means and spreads (n, m), (n,)."""
        given = torch.as_tensor(np.concatenate([means, spreads**2], axis=1)).unsqueeze(1)
        with torch.no_grad():
            found = torch.cat([self.improvement(part) for part in torch.split(given, CHUNK)])
        gains: Array = np.log(np.maximum(found.numpy(), LEAST))
        return gains


class _Given(Model):
    """A model whose points are their own means and variances, one after the other."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self._num_outputs = num_outputs

    @property
    def num_outputs(self) -> int:
        return self._num_outputs

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size()

    def posterior(self, X: Tensor, *_: Any, **__: Any) -> Posterior:
        return _Normal(X[..., : self._num_outputs], X[..., self._num_outputs :])


class _Normal(Posterior):
    """Independent normal values of which nothing is drawn."""

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        self.mean, self.variance = mean, variance

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        return self.mean.dtype

    def rsample(self, sample_shape: torch.Size | None = None) -> Tensor:
        raise NotImplementedError
