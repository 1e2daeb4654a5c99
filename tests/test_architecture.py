"""Imports point down, heavy libraries stay in their rooms, and nothing goes in circles."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "torchstudy"

# From the ground up; a module may import from its own floor or one below.
FLOORS: list[list[str]] = [
    [
        "errors",
        "values",
        "domains",
        "ranges",
        "conditions",
        "narrowing",
        "pareto",
        "records",
        "repeats",
        "schemas",
        "scratch",
        "seeds",
        "failpoints",
        "files",
        "arrays",
        "eviction",
        "caching",
        "space",
        "declaring",
        "quiet",
        "spreadsheets",
        "visible",
    ],
    [
        "data",
        "training.optim",
        "training.metrics",
        "training.batches",
        "training.clock",
        "training.compute",
        "training.health",
        "training.losses",
        "training.augmentation",
        "families.base",
        "families.phases",
    ],
    ["checking", "study", "study_files", "fitting", "families", "training", "analysis.tables"],
    [
        "search",
        "models",
        "analysis",
        "execution.owner",
        "execution.changes",
        "execution.schema",
        "execution.rows",
        "execution.attempts",
        "execution.leaves",
        "execution.rescue",
        "execution.integrity",
        "execution.redaction",
        "execution.upgrading",
        "execution.heartbeat",
        "execution.database",
        "execution.holding",
        "execution.claims",
        "execution.ledger",
    ],
    ["execution", "report"],
    ["execution.runner"],
    [
        "stored",
        "tabulating",
        "printing",
        "usage",
        "overview",
        "summaries",
        "following",
        "predictions",
        "spaces",
        "layers",
        "planning",
        "display",
        "cacheview",
        "timing",
        "running",
        "replaying",
        "modelcards",
        "exporting",
        "cli",
        "__init__",
    ],
]

ROOMS = {
    "ax": ("search", "space", "study", "narrowing", "quiet"),
    "botorch": ("search",),
    "plotly": ("report",),
    "sqlalchemy": (
        "execution.schema",
        "execution.rows",
        "execution.attempts",
        "execution.rescue",
        "execution.integrity",
        "execution.redaction",
        "execution.upgrading",
        "execution.database",
        "execution.holding",
        "execution.claims",
        "execution.ledger",
    ),
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    } | {"__init__": ast.parse((PACKAGE / "__init__.py").read_text())}


def imports_of(tree: ast.AST, *, with_types: bool = True) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            if with_types:
                yield from imports_of(node)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports_of(node, with_types=with_types)


def own_imports(tree: ast.AST, known: set[str]) -> set[str]:
    found = (name.removeprefix("torchstudy.") for name in imports_of(tree))
    return {name for name in found if name in known}


def floor_of(module: str) -> int:
    names = [(name, level) for level, floor in enumerate(FLOORS) for name in floor]
    fitting = [pair for pair in names if module == pair[0] or module.startswith(pair[0] + ".")]
    return max(fitting, key=lambda pair: len(pair[0]))[1]


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module: str) -> None:
    everything = modules()
    for imported in own_imports(everything[module], set(everything)):
        assert floor_of(imported) <= floor_of(module), (
            f"{module} imports {imported}, which is above"
        )


def test_imports_do_not_go_in_circles() -> None:
    everything = modules()
    graph = {name: own_imports(tree, set(everything)) for name, tree in everything.items()}
    while graph:
        leaves = {name for name, imports in graph.items() if not imports & graph.keys() - {name}}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: imports for name, imports in graph.items() if name not in leaves}


@pytest.mark.parametrize("library", sorted(ROOMS))
def test_heavy_libraries_stay_in_their_rooms(library: str) -> None:
    for module, tree in modules().items():
        if any(name.split(".")[0] == library for name in imports_of(tree)):
            rooms = ROOMS[library]
            assert any(module == room or module.startswith(room + ".") for room in rooms), (
                f"{module} imports {library}"
            )


def test_reports_can_be_drawn_without_torch_and_ax() -> None:
    everything = modules()
    allowed = [name for name in everything if name.startswith(("analysis.", "report."))]
    for module in allowed:
        libraries = {name.split(".")[0] for name in imports_of(everything[module])}
        assert not libraries & {"torch", "torchvision", "ax", "botorch"}, module
        for imported in own_imports(everything[module], set(everything)):
            is_ground = floor_of(imported) == 0
            assert is_ground or imported.startswith(("analysis.", "report.")), (module, imported)


def test_the_trainer_knows_no_concrete_family() -> None:
    everything = modules()
    for module in (name for name in everything if name.startswith("training.")):
        families = {
            name
            for name in own_imports(everything[module], set(everything))
            if name.startswith("families.")
        }
        assert families <= {"families.base", "families.phases"}, (module, families)


def test_files_stay_readable() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert text.startswith('"""'), f"{path.name} does not say what question it answers"
        assert len(text.splitlines()) <= 350, f"{path.name} is too long: split it by question"
