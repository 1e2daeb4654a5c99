"""With what a study is trained: versions, code, processor and settings, under a short stable id.

Code may change without a declaration changing: a family's layers, a data function, a library. A run
records what it trains with and says what changed since the last one; nothing is refused.
"""

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torchstudy.analysis.environments import CODE, KEY, Facts, changes, recorded
from torchstudy.study import Study
from torchstudy.study_files import MODULE_PREFIX

LIBRARIES = ("torchvision", "ax-platform", "botorch", "numpy", "torchstudy")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "sve", "bf16")
PACKAGE = Path(__file__).parents[1]
INSTALLED = ("site-packages", "dist-packages")
UNKNOWN = "not known"
LETTERS = 8  # of an id; of a digest 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What could make the same training give other numbers."""

    facts: Facts

    @property
    def id(self) -> str:
        """Eight hexadecimal digits, the same wherever and whenever the facts are the same."""
        text = json.dumps(dict(self.facts), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:LETTERS]

    def added_to(self, summary: Mapping[str, Any]) -> dict[str, object]:
        """What the summary of a study that goes on here says of environments: this one last."""
        others = {id: facts for id, facts in recorded(summary).items() if id != self.id}
        return {KEY: {**others, self.id: dict(self.facts)}}

    def warning(self, summary: Mapping[str, Any]) -> str:
        """What has changed since the study was last trained, in a line; empty if nothing has."""
        environments = recorded(summary)
        before: Facts = next(reversed(environments.values()), {})
        after = self.facts
        if not environments:  # a version before this one recorded versions alone
            versions = {name: str(value) for name, value in (summary.get("versions") or {}).items()}
            before = {name: value for name, value in versions.items() if name in after}
            after = {name: after[name].partition("+")[0] for name in before}
        found = changes(before, after)
        if not found:
            return ""
        return (
            f"the environment has changed since this study was last trained: {', '.join(found)}; "
            f"results from now on are marked {self.id}"
        )


def environment_of(study: Study, *, device: str, threads: int | None) -> Environment:
    """The environment of trainings of `study` on `device` with so many threads each.

    None stands for the threads of this process.

    The code is the text of torchstudy's files, of every family that is not torchstudy's own, and
    of the files that these, a data function and the study come from, with what these import from
    their own folder. What was typed at a prompt has no text and counts as `not known`. What
    `Study(...)` declares is left out: the ledger compares it itself.
    """
    import torch

    versions = {name: _version(name) for name in LIBRARIES}
    return Environment(
        facts={
            "python": platform.python_version(),
            "torch": torch.__version__,
            **versions,
            f"{CODE}torchstudy": digest_of(PACKAGE),
            "processor": processor(),
            "instructions": " ".join([torch.backends.cpu.get_cpu_capability(), *_flags()]),
            "system": f"{platform.system()} {platform.release()}",
            "device": _device(device, torch.version.cuda),
            "threads": str(threads or torch.get_num_threads()),
            "precision": study.precision,
            **_code(study),
        }
    )


@functools.cache
def digest_of(folder: Path) -> str:
    """A digest of the names and bytes of a folder's Python files, as they were when first asked."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(f"{path.relative_to(folder)}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


@functools.cache
def processor() -> str:
    """The processor's name; Linux has it in a file, others in `platform`."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> Iterator[str]:
    """The instructions there are of those that decide how sums are formed."""
    known = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return (name for name in FLAGS if name in known)


@functools.cache
def _cpuinfo(name: str) -> str:
    """An entry of the first processor; empty on systems without such a file."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ""
    with info.open() as lines:
        found = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
        return next(found, "")


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


def _device(device: str, cuda: str | None) -> str:
    """The device's kind and, of a GPU, its model and driver: asking CUDA itself takes seconds."""
    kind = device.partition(":")[0]
    if kind != "cuda":
        return kind
    folder = Path("/proc/driver/nvidia")
    models = {
        line.partition(":")[2].strip()
        for path in folder.glob("gpus/*/information")
        for line in path.read_text(errors="replace").splitlines()
        if line.startswith("Model")
    }
    version = folder / "version"
    driver = version.read_text(errors="replace").split("\n")[0] if version.exists() else ""
    numbers = [word for word in driver.split() if word[:1].isdigit() and "." in word]
    parts = [kind, *sorted(models), f"CUDA {cuda}", *(f"driver {word}" for word in numbers[:1])]
    return ", ".join(parts)


def _code(study: Study) -> dict[str, str]:
    """Digests of source text that is not torchstudy's own, by what it is the code of."""
    given: list[object] = [family for family in study.families if not _is_ours(family)]
    source = getattr(study.images, "source", None)
    if callable(source) and not _is_ours(source):
        given.append(source)
    names = [getattr(each, "__module__", "") for each in given]
    names.append(MODULE_PREFIX + study.name.replace("-", "_"))
    texts = _texts([sys.modules[name] for name in names if name in sys.modules])
    found: dict[str, list[str]] = {}
    for path, text in sorted(texts.items()):
        found.setdefault(path.name, []).append(text)
    code = {name: _digest("\0".join(parts)) for name, parts in found.items()}
    for family in (each for each in given if isinstance(each, type)):
        source_file = _file_of(sys.modules.get(family.__module__))
        text = (
            _text_of_class(texts[source_file], family.__qualname__) if source_file in texts else ""
        )
        code[family.__name__] = _digest(text) if text else UNKNOWN
    return {f"{CODE}{name}": digest for name, digest in code.items()}


def _is_ours(value: object) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] == "torchstudy"


def _texts(modules: Sequence[ModuleType]) -> dict[Path, str]:
    """The text of modules, and of those that they use from the folder that they lie in."""
    found: dict[Path, str] = {}
    waiting = [(module, path.parent) for module in modules if (path := _file_of(module))]
    while waiting:
        module, home = waiting.pop()
        path = _file_of(module)
        if path is None or path in found or not _lies_in(path, home):
            continue
        found[path] = _undeclared(path, path.stat().st_mtime_ns)
        waiting += [(used, home) for used in _used(module)]
    return found


def _used(module: ModuleType) -> Iterator[ModuleType]:
    """The modules that the names of a module come from."""
    for value in list(vars(module).values()):
        used = value if isinstance(value, ModuleType) else None
        if used is None and isinstance(name := getattr(value, "__module__", None), str):
            used = sys.modules.get(name)
        if used is not None and not _is_ours_module(used):
            yield used


def _is_ours_module(module: ModuleType) -> bool:
    return module.__name__.partition(".")[0] == "torchstudy"


def _file_of(module: ModuleType | None) -> Path | None:
    name = getattr(module, "__file__", None)
    path = Path(os.path.abspath(name)) if isinstance(name, str) and name.endswith(".py") else None
    return path if path is not None and path.is_file() else None


def _lies_in(path: Path, home: Path) -> bool:
    """Whether a file is of the project whose folder is `home`, not of a library installed in it."""
    is_inside = path.is_relative_to(home)
    return is_inside and not set(INSTALLED) & set(path.relative_to(home).parts)


@functools.lru_cache(maxsize=256)
def _undeclared(path: Path, changed: int) -> str:
    """A file's text, `changed` at that time, without statements of the form `x = Study(...)`."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):  # edited since it was loaded: then it differs anyway
        return text
    lines = text.splitlines()
    for statement in statements:
        if _declares_a_study(statement):
            assert statement.end_lineno is not None
            blank = [""] * (statement.end_lineno - statement.lineno + 1)
            lines[statement.lineno - 1 : statement.end_lineno] = blank
    return "\n".join(line for line in lines if line.strip())


def _declares_a_study(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None)
    if not isinstance(value, ast.Call):
        return False
    return ast.unparse(value.func).rpartition(".")[2] == "Study"


def _text_of_class(text: str, name: str) -> str:
    """The lines of a class at the top of a file, decorators included; empty if it is not there."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):
        return text
    for statement in statements:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            first = min([statement.lineno, *(each.lineno for each in statement.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : statement.end_lineno])
    return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
