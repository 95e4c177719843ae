"""The examples in the docstrings of the package, and that what the README and the lecture name has one."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rnn_imdb

PACKAGE = Path(rnn_imdb.__file__).parent
PUBLIC = {
    *("SimpleRNN", "LectureLast", "LectureAll", "TanhCell", "tanh_scan", "scan_inputs"),
    *("LastState", "AllStates", "MeanState", "MaxState", "MeanMaxState", "AttentionState"),
    *("ReviewClassifier", "DenseClassifier", "ConvClassifier", "SentimentModule", "compose"),
    *("tokenize", "Vocabulary", "influence", "memory_length", "running_probabilities", "predict"),
}


def documented() -> Iterator[tuple[str, str, str]]:
    """Module, name and docstring of each class and function with an example; decorators hide some from doctest."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ">>>" in (text := ast.get_docstring(node) or ""):
                yield ".".join(["rnn_imdb", *path.relative_to(PACKAGE).with_suffix("").parts]), node.name, text


EXAMPLES = {f"{module}.{name}": (module, text) for module, name, text in documented()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_gives_what_it_says(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, text = EXAMPLES[name]
    if "RUN" in text:
        monkeypatch.chdir(tmp_path)
        Path("RUN").symlink_to(request.getfixturevalue("trained"))
    names: dict[str, Any] = vars(importlib.import_module(module.removesuffix(".__init__"))).copy()
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    runner.run(doctest.DocTestParser().get_doctest(text, names, name, None, None), out=said.append)
    assert not said, "".join(said)
    assert runner.tries


def test_what_readme_and_lecture_name_has_an_example() -> None:
    assert {name.rpartition(".")[2] for name in EXAMPLES} >= PUBLIC
