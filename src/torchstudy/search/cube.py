"""Where configurations lie: points of the unit cube, as many at once as a search weighs."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from torchstudy.conditions import parents_first
from torchstudy.domains import ChoiceDomain, Domain, IntDomain
from torchstudy.space import Config, SearchSpace
from torchstudy.values import is_number

Array: TypeAlias = NDArray[np.float64]

INACTIVE = 0.5  # where `SearchSpace.to_unit` puts what does not exist
FINEST = 5_000  # values of an integer range whose places are kept in a table
APART = 0.5  # between two values without an order: half the length of a range


@dataclass(frozen=True, slots=True)
class Cube:
    """The unit cube of a space, for arrays of points: (n, d), d = len(space.dimensions)."""

    space: SearchSpace

    def points(self, configs: Sequence[Config]) -> Array:
        """The points of configurations, (n, d)."""
        rows = [self.space.to_unit(config) for config in configs]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.space.dimensions))

    def snapped(self, points: Array) -> Array:
        """The points of the nearest configurations that the space has.

        Integers and choices lie at the places of their values, what is inactive in the middle.
        """
        points, names = np.clip(points, 0.0, 1.0), self.space.dimensions
        for axis, name in enumerate(names):
            domain = self.space.domains[name]
            if places := _places(domain):
                points[:, axis] = np.array(places)[_nearest(places, points[:, axis])]
            elif isinstance(domain, IntDomain):
                values = map(domain.from_unit, points[:, axis].tolist())
                points[:, axis] = [domain.to_unit(int(value)) for value in values]
        is_there = np.ones(points.shape, dtype=bool)
        for name in (name for name in parents_first(self.space.domains) if name in names):
            for parent, value in self.space.domains[name].when:
                axis, above = names.index(name), names.index(parent)
                has_value = points[:, above] == self.space.domains[parent].to_unit(value)
                is_there[:, axis] = is_there[:, above] & has_value
        points[~is_there] = INACTIVE
        return points

    def features(self, points: Array) -> Array:
        """The points with the axes of unordered values spread out, (n, m), m = len(self.axes).

        A number is its place, and a choice of numbers the place of its rank; a choice of text is
        one column for each value, so that any two values are as far apart.
        """
        columns = []
        for axis, name in enumerate(self.space.dimensions):
            domain, column = self.space.domains[name], points[:, axis]
            if not _is_ordered(domain):
                places = _places(domain)
                columns += [(column == place) * APART / np.sqrt(2.0) for place in places]
            elif isinstance(domain, ChoiceDomain):
                ranks = np.argsort(np.argsort(np.array(domain.values)))
                columns.append((ranks[_nearest(_places(domain), column)] + 0.5) / len(ranks))
            else:
                columns.append(column)
        return np.stack(columns, axis=1) if columns else np.zeros((len(points), 0))

    @property
    def axes(self) -> NDArray[np.int64]:
        """The axis of the cube that each column of the features comes from, (m,)."""
        widths = [
            1 if _is_ordered(domain) else int(domain.size)
            for domain in (self.space.domains[name] for name in self.space.dimensions)
        ]
        return np.repeat(np.arange(len(widths)), widths)


@functools.lru_cache(maxsize=256)
def _places(domain: Domain) -> tuple[float, ...]:
    """The places of all values of a domain, ascending; none for a continuous one."""
    if isinstance(domain, ChoiceDomain):
        return tuple(domain.to_unit(value) for value in domain.values)
    if isinstance(domain, IntDomain) and domain.size <= FINEST:
        return tuple(domain.to_unit(value) for value in range(domain.low, domain.high + 1))
    return ()


def _nearest(places: tuple[float, ...], column: Array) -> NDArray[np.intp]:
    """Which of the ascending places each element of a column is nearest to."""
    grid = np.array(places)
    return np.searchsorted((grid[1:] + grid[:-1]) / 2, column)


def _is_ordered(domain: Domain) -> bool:
    """Whether the places of a domain's values say which lie between which."""
    if not isinstance(domain, ChoiceDomain):
        return True
    return domain.size <= 2 or all(is_number(value) for value in domain.values)
