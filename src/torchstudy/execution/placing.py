"""On which device each training runs, and how many share one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torchstudy.records import TrainingKey

MEMORY, CAPACITY = "device_memory", "device_capacity"  # bytes, among an outcome's metrics
ROOM = 0.9  # share of a device's memory that trainings may fill: configurations differ in need


@dataclass(slots=True, kw_only=True)
class Placing:
    """Trainings on devices. A processor takes all that there are workers for.

    Every GPU gets one training until one has ended and its memory is known; then as many as fit
    if each needs what the largest so far has needed.
    """

    devices: Sequence[str]
    most_needed: float = 0.0  # bytes
    capacity: float = 0.0  # bytes of the smallest device
    _running: dict[TrainingKey, str] = field(default_factory=dict)

    def take(self, key: TrainingKey) -> str | None:
        """The device with most room for one more training, which it then has; None if all full."""
        counts = {device: 0 for device in self.devices}
        for device in self._running.values():
            counts[device] += 1
        device = min(counts, key=lambda device: counts[device])
        if counts[device] >= self.slots(device):
            return None
        self._running[key] = device
        return device

    def give_back(self, key: TrainingKey, metrics: Mapping[str, float]) -> None:
        """The training has ended; what it measured is remembered."""
        self._running.pop(key, None)
        self.learn(metrics)

    def learn(self, metrics: Mapping[str, float]) -> None:
        """Remember the memory of a training that may have ended long ago."""
        if MEMORY in metrics and CAPACITY in metrics:
            self.most_needed = max(self.most_needed, metrics[MEMORY])
            self.capacity = min(self.capacity or metrics[CAPACITY], metrics[CAPACITY])

    def slots(self, device: str) -> float:
        """How many trainings the device takes at a time, at least one."""
        if device == "cpu":
            return float("inf")
        if not self.most_needed:
            return 1
        return max(1, int(ROOM * self.capacity / self.most_needed))
