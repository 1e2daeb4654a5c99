"""Where studies are found: a name in ./studies, a path, or `module:attribute`."""

import importlib
import importlib.util
import re
import sys
import traceback
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from torchstudy.errors import StudyError, did_you_mean

if TYPE_CHECKING:
    from torchstudy.study import Study  # loads torch, which a list of files does not need

FOLDER = Path("studies")
UNEXPECTED = re.compile(r"Study\.__init__\(\) got an unexpected keyword argument '(\w+)'")
MODULE_PREFIX = "torchstudy_study_"  # study files live under this name, so that they hide nothing


def study_files(folder: Path = FOLDER) -> dict[str, Path]:
    """The study files of a folder by name; nothing is executed."""
    return {path.stem: path for path in sorted(folder.glob("[!_.]*.py"))}


def load_study(reference: str | Path) -> "Study":
    """The study that `reference` names, its file executed once.

    `reference` is a file stem in ./studies, a path ending in `.py`, or `module:attribute`. Raises
    StudyError if it is not there, if the file fails, or if it does not hold exactly one study.
    """
    text = str(reference)
    module_name, colon, attribute = text.partition(":")
    if colon and not text.endswith(".py"):
        return _attribute_study(module_name, attribute)
    path = _study_path(text)
    return _named(_only_study(_executed(path), str(path)), path.stem)


def _study_path(text: str) -> Path:
    path = Path(text)
    if path.suffix == ".py" or len(path.parts) > 1:
        if not path.is_file():
            beside = [other.name for other in path.parent.glob("*.py") if other.is_file()]
            hint = did_you_mean(path.name, beside)
            raise StudyError(f"study {text!r}: there is no such file{hint}")
        if path.suffix != ".py":
            raise StudyError(f"study {text!r}: not a Python file; a study's name ends in .py")
        return path
    known = study_files()
    if text not in known:
        listed = f"; ./{FOLDER} has {', '.join(known)}" if known else f"; ./{FOLDER} has none"
        hint = did_you_mean(text, known)
        raise StudyError(f"study {text!r} is not known{hint}{listed}")
    return known[text]


def _executed(path: Path) -> ModuleType:
    name = MODULE_PREFIX + path.stem.replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that its classes can be pickled by value for the workers
    try:
        # Not by the loader: its bytecode cache misses an edit within the same second.
        code = compile(path.read_bytes(), str(path.absolute()), "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except StudyError as error:
        raise type(error)([f"{path}: {problem}" for problem in error.problems]) from None
    except TypeError as error:
        raise StudyError(f"{path}{_line_in(path, error)}: {_misspelt(error)}") from error
    except Exception as error:  # a study file is a user's code; the cause stays attached
        raise StudyError(f"{path}{_line_in(path, error)}: {_one_line(error)}") from error
    return module


def _line_in(path: Path, error: Exception) -> str:
    place = str(path.absolute())
    if isinstance(error, SyntaxError) and error.filename == place:
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == place]
    return f", line {lines[-1]}" if lines else ""


def _misspelt(error: TypeError) -> str:
    """What went wrong, with a hint where `Study` was given a field that it does not have."""
    from torchstudy.study import Study

    found = UNEXPECTED.search(str(error))
    if found is None:
        return _one_line(error)
    known = [field.name for field in fields(Study)]
    hint = did_you_mean(found[1], known) or f"; it has {', '.join(known)}"
    return f"Study has no field {found[1]!r}{hint}"


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _only_study(module: ModuleType, where: str) -> "Study":
    from torchstudy.study import Study

    named = getattr(module, "study", None)
    if isinstance(named, Study):
        return named
    studies = [value for value in vars(module).values() if isinstance(value, Study)]
    if len(studies) != 1:
        raise StudyError(f"{where}: expected `study = Study(...)`, found {len(studies)} studies")
    return studies[0]


def _attribute_study(module_name: str, attribute: str) -> "Study":
    from torchstudy.study import Study

    where = f"study '{module_name}:{attribute}'"
    if not module_name or not attribute:
        raise StudyError(f"{where}: write module:attribute, such as my_package.studies:digits")
    module = _imported(module_name, where)
    if not hasattr(module, attribute):
        hint = did_you_mean(attribute, vars(module))
        raise StudyError(f"{where}: {module_name} has no {attribute!r}{hint}")
    study = getattr(module, attribute)
    if not isinstance(study, Study):
        raise StudyError(f"{where}: that is {study!r}, not a Study")
    return _named(study, module_name.rpartition(".")[2] if attribute == "study" else attribute)


def _imported(module_name: str, where: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module_name)
    except StudyError as error:
        raise type(error)([f"{where}: {problem}" for problem in error.problems]) from None
    except Exception as error:  # so is a module that holds a study
        raise StudyError(f"{where}: {_one_line(error)}") from error
    finally:
        sys.path.pop(0)


def _named(study: "Study", name: str) -> "Study":
    from torchstudy.study import Study

    return study if study.name != Study.name else replace(study, name=name)
