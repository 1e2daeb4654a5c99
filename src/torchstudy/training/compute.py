"""On which device and in which precision a network is trained."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from torchstudy.errors import StudyError

PRECISIONS = ("auto", "fp32")
DEVICES = ("auto", "cpu", "cuda", "mps")
# Operations of a step's forward pass from which casting to bfloat16 costs less than it saves:
# benchmarks/step_speed.json
BF16_WORK = 5e7
CONTEXT = 0.5 * 2**30  # bytes that a process holds on a GPU before its first tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where gradient steps are computed, and whether their matrix products are in bfloat16.

    Weights, losses, optimizer states and scores are in single precision either way: what is
    reported is what the saved network answers.
    """

    device: str = "cpu"
    is_bf16: bool = False
    is_profiled: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Around the forward pass and the loss of a step."""
        if not self.is_bf16:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)

    @property
    def precision(self) -> str:
        """The name of the precision of matrix products: `bf16` or `fp32`."""
        return "bf16" if self.is_bf16 else "fp32"

    @property
    def seeded_devices(self) -> list[str]:
        """The devices besides the CPU whose random state a training uses."""
        return [self.device] if self.device.startswith("cuda") else []

    def seed(self, value: int) -> None:
        """Let the devices' global generators begin at `value`.

        `torch.manual_seed` would keep a traceback for GPUs at every call, in a list that grows.
        """
        torch.default_generator.manual_seed(value)
        for device in self.seeded_devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(value)

    def synchronise(self) -> None:
        """Wait until the device has done what it was given, where its time is profiled."""
        if self.is_profiled and self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


def compute_for(precision: str, device: str, work: float) -> Compute:
    """How to train a network whose forward pass of one batch takes `work` operations.

    `auto` is bfloat16 where the device is quicker with it and the work is worth the casts: a
    function of the configuration and the device, never of a clock. `device` is one that
    `device_named` returned.
    """
    is_bf16 = precision == "auto" and work >= BF16_WORK and has_bf16(device)
    return Compute(device=device, is_bf16=is_bf16)


def device_named(name: str) -> str:
    """The device that a study asks for: `auto` is a GPU where there is one. StudyError if absent.

    Of several GPUs this is the first; workers spread over them.
    """
    available = [kind for kind in ("cuda", "mps") if _has(kind)]
    if name == "auto":
        return available[0] if available else "cpu"
    if name != "cpu" and name not in available:
        there = ", ".join(["cpu", *available])
        raise StudyError(f"device: {name!r} is not there; this machine has {there}")
    return name


def devices_of(name: str) -> list[str]:
    """The devices that workers spread over: every GPU, or the one device that there is."""
    device = device_named(name)
    if device != "cuda":
        return [device]
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def memory_of(device: str) -> tuple[float, float] | None:
    """The most bytes that this process has held on a GPU so far, and all that the GPU has."""
    if not device.startswith("cuda"):
        return None
    total = torch.cuda.get_device_properties(device).total_memory
    return CONTEXT + float(torch.cuda.max_memory_reserved(device)), float(total)


def _has(kind: str) -> bool:
    return torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()


def has_bf16(device: str) -> bool:
    """Whether products of bfloat16 are quicker there than those of single precision.

    Processors: with AVX512-bf16 or AMX instructions. Elsewhere they are imitated, and slower.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
