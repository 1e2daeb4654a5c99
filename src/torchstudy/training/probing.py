"""Whether a network can be trained in bfloat16: one step of each phase is tried on a copy."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from torchstudy.families.phases import Fit, Phase
from torchstudy.training.batches import Batch
from torchstudy.training.compute import Compute


def settled(
    compute: Compute, model: nn.Module, phases: Sequence[Phase | Fit], batch: Batch
) -> Compute:
    """`compute` itself, or single precision where a loss cannot be had in bfloat16.

    Some operations have no bfloat16 form, and a network of one's own may use any. The model and
    torch's random state stay as they are.
    """
    if not compute.is_bf16:
        return compute
    devices = compute.seeded_devices
    with torch.random.fork_rng(devices=devices), compute.autocast():
        for phase in phases:
            if isinstance(phase, Phase) and not _has_gradients(phase, copy.deepcopy(model), batch):
                return Compute(device=compute.device, is_profiled=compute.is_profiled)
    return compute


def _has_gradients(phase: Phase, model: nn.Module, batch: Batch) -> bool:
    model.train()
    try:
        phase.loss(model, batch).backward()  # type: ignore[no-untyped-call]  # torch's own
    except Exception:  # whatever is wrong shows again, with its text, in single precision
        return False
    return True
