"""The studies: each in its short form, its files and its README; their sweeps, and what they share."""

import csv
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments import common
from experiments.common import MARKS, Study, results
from rnn_imdb.common.errors import UserError
from rnn_imdb.sweeps import command_line as sweep
from rnn_imdb.sweeps.report import markdown_table
from rnn_imdb.sweeps.results import Job, Spread, spread

pytestmark = pytest.mark.usefixtures("forked")

HOME = Path(common.__file__).parent
STUDIES = sorted(path.parent.name for path in HOME.glob("*/study.py"))
SWEEPS = sorted(str(path.relative_to(HOME)) for path in HOME.glob("*/*.yaml"))

# rows of results.csv in the short form where that is one number, and columns that they must have
RESULTS: dict[str, tuple[int | None, set[str]]] = {
    "capacity": (4 * 2, {"model.readout", "model.state_dim", "model.embedding_dim", "seed", "test/accuracy"}),
    "forgetting": (2 * (2 * 2 + 1 + 2 * 2), {"readout", "seed", "what", "at", "value"}),
    "last_or_all": (None, {"program", "model.readout", "seed", "parameters", "test/accuracy"}),
    "one_to_one": (None, {"model", "trained_on", "read", "seed", "parameters", "test/accuracy"}),
    "padding": (2 * 2, {"data.padding", "model.mask_padding", "seed", "parameters", "test/accuracy", "seconds"}),
    "recipe": (2 * 2 + 2, {"optimizer", "model.init", "seed", "validation/accuracy", "test/accuracy"}),
    "why_tanh": (2 * 2, {"model.activation", "model.spectral_radius", "seed", "trained_spectral_radius", "error"}),
}
# JAX would stay in this process, and warns of each later fork
PROCESSES = ("last_or_all",)


@pytest.fixture
def study_overrides(small_data: dict[str, Any]) -> list[str]:
    """The small archive, in the lengths that a study asks for."""
    settings = {name: small_data[name] for name in ("root", "reviews_per_class", "cache_dir", "batch_size")}
    return [*(f"data.{name}={value}" for name, value in settings.items()), "trainer.accelerator=cpu"]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def table_header(text: str) -> list[str]:
    """The header of the first Markdown table in ``text``."""
    match = re.search(r"^\| (.+) \|\n\| ---", text, re.MULTILINE)
    assert match is not None, text
    return match[1].split(" | ")


@pytest.mark.parametrize("name", STUDIES)
def test_study_runs_in_its_short_form(
    name: str, study_overrides: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in HOME.glob(f"{name}/*")}
    arguments = ["--short", "--output", str(tmp_path), *study_overrides]
    if name in PROCESSES:
        subprocess.run([sys.executable, "-m", f"experiments.{name}.study", *arguments], cwd=HOME.parent, check=True)
    else:
        importlib.import_module(f"experiments.{name}.study").main(arguments)
    rows = rows_of(tmp_path / "results.csv")
    assert rows
    if name in RESULTS:
        count, columns = RESULTS[name]
        assert count is None or len(rows) == count
        assert columns <= set(rows[0])
    header = table_header(capfd.readouterr().out)
    readme = HOME / name / "README.md"
    if readme.is_file():
        text = readme.read_text()
        figures = re.findall(r"\]\((\w+\.png)\)", text)
        assert figures, "a README shows the figures of its study"
        assert {path.name for path in tmp_path.glob("*.png")} == set(figures)
        written = text.partition(MARKS[0])[2].partition(MARKS[1])[0]
        # columns that go over values may be fewer in the short form
        assert not written.strip() or set(header) <= set(table_header(written))
    for figure in tmp_path.glob("*.png"):
        assert figure.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("*.png"))
    # nothing of a trial stands in the place of results
    assert {path: path.stat().st_mtime_ns for path in HOME.glob(f"{name}/*")} == before


@pytest.mark.parametrize("name", ["best", "last_state"])
def test_the_search_runs_in_its_short_form_and_reads_no_test_review(
    name: str, study_overrides: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    search = importlib.import_module(f"experiments.{name}.search")
    search.main(["--short", "--output", str(tmp_path), *study_overrides])
    rows = rows_of(tmp_path / "search.csv")
    assert [row["candidate"] for row in rows] == list(search.CANDIDATES)[:1]
    assert rows[0]["validation/accuracy"]
    assert rows[0]["test/accuracy"] == ""
    document = (HOME / name / "search.md").read_text()
    assert table_header(capfd.readouterr().out) == table_header(document.partition(MARKS[0])[2])
    # all candidates stand there, those that failed too
    tried = dict.fromkeys(row["candidate"] for row in rows_of(HOME / name / "search.csv"))
    assert list(tried) == list(search.CANDIDATES)


@pytest.mark.parametrize("name", STUDIES)
def test_readme_has_the_command_and_the_place_of_the_table(name: str) -> None:
    text = (HOME / name / "README.md").read_text()
    assert f"python -m experiments.{name}.study" in text
    assert [text.count(mark) for mark in MARKS] == [1, 1]
    assert text.index(MARKS[0]) < text.index(MARKS[1])
    for part in ("Question", "Command", "Finding", "What would change our mind"):
        assert re.search(rf"^\*\*{part}(\.\*\*|\*\*)", text, re.MULTILINE), part


@pytest.mark.parametrize("file", SWEEPS)
def test_sweep_file_composes(file: str) -> None:
    command = sweep.prepare([f"sweep={HOME / file}"])
    assert command[0] == "--multirun"
    overrides = OverridesParser.create().parse_overrides(command[1:])
    axes = {
        item.get_key_element(): list(item.sweep_string_iterator()) for item in overrides if item.is_sweep_override()
    }
    fixed = [item.input_line or "" for item in overrides if not item.is_sweep_override()]
    assert "seed" in axes or "test=false" in fixed, "what is said of test reviews rests on several seeds"
    assert yaml.safe_load((HOME / file).read_text())["name"].startswith(file.partition("/")[0])
    for end in (0, -1):
        composed = compose("train", *fixed, *(f"{key}={values[end]}" for key, values in axes.items()))
        assert composed.data.source == "aclimdb"
        assert str(composed.seed) == axes.get("seed", ["0"])[end]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study without a sweep."""
    home = tmp_path / "mine"
    home.mkdir()
    return Study(str(home / "study.py"), "Nothing much.", [])


def job(name: str, metrics: dict[str, Any] | None = None, **config: Any) -> Job:
    if metrics is None:
        return Job(Path(name), config, status="failed", error="it overflowed")
    return Job(Path(name), config, {"parameters": 7, "best_epoch": 2, "seconds": 1.26} | metrics)


def test_trainings_are_grouped_and_sorted() -> None:
    jobs = [
        job(str(i), {}, size=size, init=init)
        for i, (size, init) in enumerate([(16, "b"), (8, "b"), (16, "a"), (8, "b")])
    ]
    groups = common.group_by(jobs, "size", "init")
    assert list(groups) == [(8, "b"), (16, "a"), (16, "b")]
    assert [[one.name for one in group] for group in groups.values()] == [["1", "3"], ["2"], ["0"]]


def test_rows_leave_empty_what_a_failed_training_has_not() -> None:
    finished = {"validation/loss": 0.123456, "validation/accuracy": 0.5, "test/loss": 1, "test/accuracy": 0.98765}
    rows = common.rows_of([job("a", seed=1, size=4), job("b", finished, seed=0, size=8)], ["size"])
    assert list(rows[0].values()) == [4, 1, *[""] * 7]
    assert list(rows[1].values()) == [8, 0, 7, 2, 0.1235, 0.5, 1, 0.9877, 1.3]
    assert list(rows[0]) == list(rows[1])


def test_figures_read_as_percent_and_tables_as_markdown() -> None:
    assert common.percent(Spread(0.85512, 0.0161, 5)) == "85.5 ± 1.6"
    assert common.percent(Spread(0.5, None, 1)) == "50.0"
    assert common.percent(spread([])) == ""
    assert markdown_table(("model", "test %"), [("a", 1), ("b", "2 ± 1")]) == (
        "| model | test % |\n| --- | ---: |\n| a | 1 |\n| b | 2 ± 1 |\n"
    )


@pytest.mark.parametrize(
    ("values", "expected"), [("0,1,2", "0,2"), ("adam", "adam"), ("1,1", "1"), ("[1,2,3]", "[1,2,3]"), ("True", "True")]
)
def test_short_form_takes_the_ends_of_an_axis(values: str, expected: str) -> None:
    assert common._ends(values) == expected


def test_table_takes_its_place_in_the_readme_and_leaves_the_rest(study: Study) -> None:
    readme = study.home / "README.md"
    readme.write_text(f"# Mine\n\nBefore.\n\n{MARKS[0]}{MARKS[1]}\n## Finding\n\nÄfter.\n")
    for header, rows in ((("a", "test %"), [("x", 1)]), (("b", "c"), [("y", "2 ± 1"), ("z", 3)])):
        study.write_table(header, rows)
        table = markdown_table(header, rows)
        assert readme.read_text() == (f"# Mine\n\nBefore.\n\n{MARKS[0]}\n{table}\n{MARKS[1]}\n## Finding\n\nÄfter.\n")
    written = readme.read_text()
    for more in ([], ["--short"]):
        elsewhere = Study(str(study.home / "study.py"), "", [*more, "--output", str(study.home / "elsewhere")])
        elsewhere.write_table(("d", "e"), [])
    assert readme.read_text() == written


def test_rows_are_written_as_csv(study: Study) -> None:
    study.write_rows([{"a": 1, "b": "x, y"}, {"a": 2.5, "b": ""}])
    assert (study.home / "results.csv").read_text() == 'a,b\n1,"x, y"\n2.5,\n'


def test_trial_does_not_write_over_results(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        Study(common.__file__, "", ["--short"])
    assert "--short needs --output" in capsys.readouterr().err


def test_second_run_trains_and_scores_nothing_anew(study_overrides: list[str], tmp_path: Path) -> None:
    axes = {"data": "aclimdb", "model.readout": "last,mean,all", "seed": "3,4"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"name": "mine", "axes": axes}))
    arguments = ["--short", "--output", str(tmp_path / "out"), *study_overrides, "data.sequence_length=30", "seed=5"]
    study = Study(str(tmp_path / "study.py"), "", arguments)
    jobs = study.sweep()
    # the command line's own value takes the place of an axis
    assert [(job.config["model.readout"], job.config["seed"]) for job in jobs] == [("all", 5), ("last", 5)]

    scored = study.evaluate(jobs[1], "end", last_words=5)
    file = jobs[1].folder / "evaluation_end.json"
    assert scored == json.loads(file.read_text())
    assert scored["data"]["last_words"] == 5
    assert scored["test/loss"] != study.evaluate(jobs[1], "start", first_words=5)["test/loss"]

    kept = [file, *(job.folder / "metrics.json" for job in jobs)]
    before = [path.stat().st_mtime_ns for path in kept]
    assert [job.metrics for job in study.sweep()] == [job.metrics for job in jobs]
    assert study.evaluate(jobs[1], "end", last_words=5) == scored
    assert [path.stat().st_mtime_ns for path in kept] == before


@pytest.mark.parametrize(
    ("error", "failure", "refused"),
    [
        ("UserError: the loss must be finite", "must be (a )?finite", None),
        ("UserError: the loss must be finite", None, "failed (UserError: the loss must be finite)"),
        ("OSError: no space left", "must be (a )?finite", "failed (OSError: no space left)"),
        (None, "must be (a )?finite", "unfinished ()"),
    ],
)
def test_only_the_failure_named_is_a_result(
    error: str | None, failure: str | None, refused: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "seed-1"
    folder.mkdir()
    (folder / "config.yaml").write_text("{model: {state_dim: 4, embedding_dim: 4, readout: last}, seed: 1}")
    if error is not None:
        (folder / "error.txt").write_text(f"Traceback\n{error}\n")
    if refused is None:
        assert [job.status for job in results(tmp_path, failure)] == ["failed"]
    else:
        with pytest.raises(
            UserError, match=re.escape(f"must have finished, but seed-1 is {refused}: give the command")
        ):
            results(tmp_path, failure)


def test_linear_state_grows_as_the_powers_of_the_radius() -> None:
    from experiments.why_tanh.study import STATE_DIM, norms

    steps = np.arange(1, 501)
    for radius in (0.9, 1.2):
        expected = np.broadcast_to(radius**steps, (2, 500))
        np.testing.assert_allclose(norms("identity", radius, 2), expected, rtol=1e-3)
    bounded = norms("tanh", 1.2, 2)
    assert 1 < bounded[:, 20:].min() < bounded.max() < STATE_DIM**0.5


def test_influence_on_the_last_state_is_the_norm_of_its_jacobian() -> None:
    from experiments.forgetting.study import state_influence
    from rnn_imdb.model.rnn import ReviewClassifier

    torch.manual_seed(0)
    classifier = ReviewClassifier(vocabulary_size=11, embedding_dim=3, state_dim=5, init="torch")
    tokens = torch.randint(11, (2, 7))
    found = state_influence(classifier, tokens)
    assert found.shape == (2, 7)
    for review, influences in zip(tokens, found, strict=True):
        inputs = classifier.embedding(review).detach()
        jacobian = torch.autograd.functional.jacobian(lambda x: classifier.cell(x[None])[0, -1], inputs)  # (H, T, E)
        assert isinstance(jacobian, torch.Tensor)
        torch.testing.assert_close(influences, jacobian.norm(dim=(0, 2)).flip(0).double(), rtol=1e-4, atol=1e-6)
