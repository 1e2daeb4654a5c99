"""Where a training stands: everything needed to go on exactly as if it had never stopped."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from torchstudy.failpoints import failpoint
from torchstudy.files import written_aside
from torchstudy.records import Epoch
from torchstudy.training.tensorfiles import Damaged, read_tensors, write_tensors

VERSION = 4


@dataclass(slots=True, kw_only=True)
class Standing:
    """The mutable state of one training; `save` and `restore` carry all of it."""

    model: nn.Module
    optimizers: dict[str, optim.Optimizer]  # by phase name
    shuffle: torch.Generator
    steps: dict[str, int] = field(default_factory=dict)  # taken so far, by phase name
    rows: list[Epoch] = field(default_factory=list)
    pictures: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # by epoch, by caption
    best_epoch: int = 0
    best_value: float = float("nan")
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the network is; a network without numbers counts as on the CPU."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def keep_best(self, epoch: int, value: float) -> None:
        """Remember the weights as they are now as those of the best epoch."""
        self.best_epoch, self.best_value = epoch, value
        self.best_weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}


def save(standing: Standing, path: Path) -> None:
    """Replace the checkpoint at `path`; it holds tensors and plain values only, no pickled code.

    The states of torch's global generators are part of it: dropout draws from there.
    """
    state = {
        "version": VERSION,
        "training": _training_of(path),
        "model": standing.model.state_dict(),
        "optimizers": {name: opt.state_dict() for name, opt in standing.optimizers.items()},
        "shuffle": standing.shuffle.get_state(),
        "random": _random_states(standing.device),
        "steps": standing.steps,
        "rows": [asdict(row) for row in standing.rows],
        "pictures": standing.pictures,
        "best_epoch": standing.best_epoch,
        "best_value": standing.best_value,
        "best_weights": standing.best_weights,
    }
    failpoint("before-checkpoint")
    with written_aside(path) as aside:
        write_tensors(aside, state)
        failpoint("amid-checkpoint")
    failpoint("after-checkpoint")


def restore(standing: Standing, path: Path) -> bool:
    """Put the saved state back into `standing`; False, and nothing changed, if there is none.

    One that is damaged, another training's or of another network counts as none: that training
    starts over.
    """
    try:
        state = _read(path, standing.device)
    except (FileNotFoundError, Damaged):
        return False
    if not _fits(standing, state):
        return False
    standing.model.load_state_dict(state["model"])
    for name, optimizer in standing.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    standing.shuffle.set_state(state["shuffle"].cpu())
    _set_random_states(state["random"], standing.device)
    standing.steps = dict(state["steps"])
    standing.rows = [Epoch(**row) for row in state["rows"]]
    standing.pictures = state["pictures"]
    standing.best_epoch, standing.best_value = state["best_epoch"], state["best_value"]
    standing.best_weights = state["best_weights"]
    return True


def sift(path: Path) -> str:
    """Remove a checkpoint that cannot be gone on from; why it cannot, or "" if it can or is none.

    Not done while the training runs that it belongs to.
    """
    try:
        _read(path, "cpu")
    except FileNotFoundError:
        return ""
    except Damaged as error:
        path.unlink(missing_ok=True)
        return f"{path} is damaged ({error}) and was removed: this training starts over"
    return ""


def _random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)


def _training_of(path: Path) -> str:
    """The training whose folder a checkpoint lies in, wherever the study's folder is moved to."""
    return "/".join(path.absolute().parts[-3:-1])


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    """What was saved; raises Damaged, or FileNotFoundError."""
    state = read_tensors(path, device)
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise Damaged("it was not written by this version")
    if state["training"] != _training_of(path):
        raise Damaged(f"it belongs to the training {state['training']}")
    return state


def _fits(standing: Standing, state: dict[str, Any]) -> bool:
    """Whether a state is of the same network and optimizers: a family's code may have changed."""
    own, saved = standing.model.state_dict(), state["model"]
    if own.keys() != saved.keys() or standing.optimizers.keys() != state["optimizers"].keys():
        return False
    groups = [
        (optimizer.state_dict()["param_groups"], state["optimizers"][name]["param_groups"])
        for name, optimizer in standing.optimizers.items()
    ]
    is_alike = all(
        [len(group["params"]) for group in now] == [len(group["params"]) for group in then]
        for now, then in groups
    )
    return is_alike and all(own[name].shape == saved[name].shape for name in own)
