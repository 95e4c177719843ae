"""The house: a folder imports from the floors below it only, and no files import each other in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# from the top; the commands are the files beside the folders, but for the lecture's two, which know nothing of the rest
FLOORS = (
    *("commands", "benchmarks", "sweeps", "insight", "training", "model", "scan"),
    *("config", "data", "common", "lecture"),
)
# floors that know nothing of others below them, beside what the order says
APART = {"scan": set(FLOORS), "model": {"config"}}
LOADERS = ("import_module", "__import__", "find_spec", "run_module")


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package, by its name."""
    found = {}
    for path in sorted((root / "rnn_imdb").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, source: str, known: set[str]) -> set[str]:
    """The modules of the package that ``source`` imports anywhere: also in functions, for types, and by name."""
    package = name if any(other.startswith(f"{name}.") for other in known) else name.rpartition(".")[0]
    found = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" if f"{module}.{alias.name}" in known else module for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in LOADERS:
            # what is not written there comes from a text elsewhere in the file
            texts = (node.args[0],) if isinstance(node.args[0], ast.Constant) else ast.walk(tree)
            found |= {str(text.value) for text in texts if isinstance(text, ast.Constant)}
    return {module for module in found if module in known and module != name}


def floor_of(name: str) -> str:
    """The folder of a module, ``lecture`` or ``commands``."""
    floor = name.removesuffix("_keras").split(".")[1:2]
    return floor[0] if floor and floor[0] in FLOORS else "commands"


MODULES = modules()
GRAPH = {name: imports_of(name, path.read_text(encoding="utf-8"), set(MODULES)) for name, path in MODULES.items()}


def test_every_folder_is_a_floor() -> None:
    folders = {path.name for path in (ROOT / "rnn_imdb").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == set(FLOORS) - {"commands", "lecture"}


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_knows_only_those_below(floor: str) -> None:
    below = {floor, *FLOORS[FLOORS.index(floor) + 1 :]} - (APART.get(floor, set()) - {floor})
    arrows = {(name, other) for name in GRAPH if floor_of(name) == floor for other in GRAPH[name]}
    # the version of the package is everybody's
    assert {arrow for arrow in arrows if floor_of(arrow[1]) not in below and arrow[1] != "rnn_imdb"} == set()


def test_no_files_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            # the package imports its names only where they are used
            for below in GRAPH[name] - {"rnn_imdb"}:
                visit(below, (*above, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from rnn_imdb.training import run",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rnn_imdb.training.run",
        "import importlib\ndef f(): importlib.import_module('rnn_imdb.training.run')",
        "TABLE = {'run': 'rnn_imdb.training.run'}\ndef f(name): return import_module(TABLE[name])",
        "from ..training import run",
        "from ..training.run import train",
    ],
)
def test_an_import_is_seen_wherever_it_stands(source: str) -> None:
    assert imports_of("rnn_imdb.scan.bptt", source, set(MODULES)) == {"rnn_imdb.training.run"}
