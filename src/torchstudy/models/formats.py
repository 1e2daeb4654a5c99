"""The files of an export that hold the network: how each is written, read back and compared."""

import importlib.util
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchstudy.errors import RunError
from torchstudy.files import refusal_in
from torchstudy.models.deployed import (
    Deployed,
    Probe,
    example,
    largest_difference,
    own_answers,
    tolerance,
)
from torchstudy.models.saved import SavedModel
from torchstudy.training.tensorfiles import read_tensors

STATE, SAFE, PROGRAM, ONNX = "model.pt", "model.safetensors", "model.pt2", "model.onnx"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
HOW_TO_GET_ONNX = "pip install 'torchstudy[onnx]'"
ITEMS, ANSWERS = "items", "answers"  # the names of the batch dimension and of the output in ONNX


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One way to keep the network: `write(saved, path)`, and its answers when read back."""

    name: str
    write: Callable[[SavedModel, Path], None]
    answers: Callable[[SavedModel, Path, tuple[Tensor, ...]], Tensor]


class Unwritable(Exception):
    """A network that a format cannot hold; says why in one sentence."""


def formats(state: Path) -> Iterator[Format]:
    """Those that can be written here; `state` is the file of the weights that are exported."""

    def copy(saved: SavedModel, path: Path) -> None:
        shutil.copyfile(state, path)

    yield Format(name=STATE, write=copy, answers=_answers_of_weights(read_tensors))
    yield Format(name=SAFE, write=_write_safetensors, answers=_answers_of_weights(_safetensors))
    yield Format(name=PROGRAM, write=_write_program, answers=_answers_of_program)
    if has_onnx():
        yield Format(name=ONNX, write=_write_onnx, answers=_answers_of_onnx)


def has_onnx() -> bool:
    """Whether the packages of the extra `onnx` are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ONNX_PACKAGES)


def verified(format: Format, saved: SavedModel, path: Path, probe: Probe) -> float:
    """Write a format to `path`, read it back, and return the largest difference of its answers.

    The items of the probe are asked about all at once, and the first of them alone. Raises
    Unwritable where it cannot be made, RunError where it differs by more than `tolerance`.
    """
    apart = 0.0
    for inputs in (probe.inputs, tuple(tensor[:1] for tensor in probe.inputs)):
        wanted = own_answers(saved, Probe(inputs=inputs, words=probe.words))
        with _told(saved):
            if inputs is probe.inputs:
                format.write(saved, path)
            found = format.answers(saved, path, inputs)
        apart = max(apart, largest_difference(saved, found, wanted))
    if apart > (most := tolerance(saved)):
        raise RunError(
            f"{format.name}: its answers differ from those of the network by up to {apart:.3g} "
            f"({probe.words}), and by rounding alone it would be less than {most:.3g}; nothing was "
            "exported"
        )
    return apart


@contextmanager
def _told(saved: SavedModel) -> Iterator[None]:
    """Quiet libraries; whatever they raise is Unwritable."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # torch.export and ONNX raise anything on code they cannot follow
        if refusal_in(error) is not None:
            raise
        family = type(saved.family).__name__
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise Unwritable(
            f"the network of {family} cannot be written in this format ({reason})"
        ) from error
    finally:
        logging.disable(level)


def _write_safetensors(saved: SavedModel, path: Path) -> None:
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().clone().contiguous()  # shared and transposed ones are refused
        for name, tensor in saved.network.state_dict().items()
    }
    path.write_bytes(save(tensors, {"format": "pt", "family": type(saved.family).__name__}))


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(path.read_bytes())


def _answers_of_weights(
    read: Callable[[Path], Mapping[str, Tensor]],
) -> Callable[[SavedModel, Path, tuple[Tensor, ...]], Tensor]:
    """The answers of a network made anew from a file of its weights."""

    def answers(saved: SavedModel, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
        network = saved.family.deployed(saved.data)
        network.load_state_dict(read(path))
        anew = replace(saved, network=network.eval())
        return own_answers(anew, Probe(inputs=inputs, words=""))

    return answers


def _write_program(saved: SavedModel, path: Path) -> None:
    kept = io.BytesIO()
    torch.export.save(_program(saved), kept)
    path.write_bytes(kept.getvalue())


def _program(saved: SavedModel) -> torch.export.ExportedProgram:
    deployed = Deployed(saved)
    sizes = tuple({0: torch.export.Dim(ITEMS)} for _ in deployed.takes)
    return torch.export.export(deployed, example(deployed), dynamic_shapes={"inputs": sizes})


def _answers_of_program(saved: SavedModel, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    with path.open("rb") as file:
        answers: Tensor = torch.export.load(file).module()(*inputs)
    return answers


def _write_onnx(saved: SavedModel, path: Path) -> None:
    deployed = Deployed(saved)
    program: Any = torch.onnx.export(
        deployed,
        example(deployed),
        input_names=deployed.takes,
        output_names=(ANSWERS,),
        dynamic_shapes={"inputs": tuple({0: torch.export.Dim(ITEMS)} for _ in deployed.takes)},
        dynamo=True,
        verbose=False,
    )
    path.write_bytes(program.model_proto.SerializeToString())


def _answers_of_onnx(saved: SavedModel, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    given = dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True))
    return torch.from_numpy(session.run(None, given)[0])
