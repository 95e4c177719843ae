"""What the documents say to type is run by a test, and their links lead somewhere."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_experiments import STUDIES
from test_package import readme_commands

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "experiments").glob("**/*.md"))]
# run in their short form by test_experiments.py
RUN = {f"experiments.{name}.study" for name in STUDIES} | {"experiments.best.search", "experiments.last_state.search"}
# a plugin that no extra brings
OWN = "hydra/sweeper=optuna"


def texts_of(path: Path) -> list[str]:
    """A document, or the Markdown cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return [text]
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_fenced_command_is_run_by_a_test(path: Path) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    commands = [line for block in blocks for line in block.splitlines() if re.match(r"(pip|python) ", line)]
    run_there = "\n".join(readme_commands())
    for command in commands:
        module = re.search(r"python -m ([\w.]+)", command)
        assert module is not None, command
        assert find_spec(module[1]) is not None, command
        in_readme = path == ROOT / "README.md" and command.removesuffix("\\").strip() in run_there
        assert in_readme or module[1] in RUN or module[1] == "pytest" or OWN in command, command


@pytest.mark.parametrize(
    "path", [*DOCUMENTS, ROOT / "experiments" / "lecture.ipynb"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(path: Path) -> None:
    for text in texts_of(path):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if target.startswith("https://"):
                continue
            file, _, anchor = target.partition("#")
            there = path.parent / file if file else path
            assert there.exists(), target
            headings = re.findall(r"^#+ (.*)$", "\n".join(texts_of(there)), re.MULTILINE) if anchor else []
            names = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not anchor or anchor in names, target
