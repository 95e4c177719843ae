"""The lecture's models as it writes them compute what the package does, in plain PyTorch and in Keras."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from conftest import compose
from nbclient import NotebookClient

from experiments import network
from rnn_imdb.lecture import LectureAll, LectureLast, SimpleRNN
from rnn_imdb.lecture_keras import available
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.training.checkpoint import Checkpoint, open_checkpoint
from rnn_imdb.training.run import train

MODELS: dict[str, type[Any]] = {"last": LectureLast, "all": LectureAll}
IN_KERAS = """
import sys
import numpy as np
from rnn_imdb.lecture_keras import keras_weights, lecture_model
from rnn_imdb.training.checkpoint import open_checkpoint
checkpoint, tokens = open_checkpoint(sys.argv[1]), np.load(sys.argv[2])
words, readout = len(checkpoint.vocabulary), checkpoint.config["model"]["readout"]
model = lecture_model(readout, vocabulary_size=words, sequence_length=tokens.shape[1])
model.set_weights(keras_weights(checkpoint.weights))
# a probability near 1 has lost the digits of its logit
model.layers[-1].activation = lambda logit: logit
np.save(sys.argv[2], model(tokens))
"""


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest, small_overrides: list[str], tmp_path_factory: Any) -> Checkpoint:
    """A checkpoint of each of the lecture's models."""
    folder = tmp_path_factory.mktemp("lecture") / "run"
    options = ["test=false", "trainer.max_epochs=2", "logger=none", "trainer.enable_progress_bar=false"]
    train(compose("train", *small_overrides, *options, f"model.readout={request.param}"), folder)
    return open_checkpoint(folder)


def tokens_of(checkpoint: Checkpoint) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (64, checkpoint.config["data"]["sequence_length"])
    return torch.randint(len(checkpoint.vocabulary), shape, generator=generator)


def test_a_checkpoint_decides_the_same_in_the_lectures_model(trained: Checkpoint) -> None:
    tokens, readout = tokens_of(trained), trained.config["model"]["readout"]
    model = MODELS[readout](len(trained.vocabulary), *([tokens.shape[1]] if readout == "all" else []))
    model.load_state_dict(trained.weights)
    with torch.inference_mode():
        logits, expected = model(tokens), trained.classifier()(tokens)
        exact = model.double()(tokens)
        assert exact.std() > 0.05
        torch.testing.assert_close(exact, trained.classifier().double()(tokens), atol=1e-12, rtol=0)
        # training makes a recurrence that enlarges what was rounded
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("readout", "parameters"), [("last", 322_113), ("all", 338_081)])
def test_the_lectures_model_has_its_size_and_decides_as_the_package(readout: str, parameters: int) -> None:
    torch.manual_seed(0)
    model, classifier = MODELS[readout](), ReviewClassifier(readout=readout)
    own, packages = model.state_dict(), classifier.state_dict()
    assert {name: weight.shape for name, weight in own.items()} == {
        name: weight.shape for name, weight in packages.items()
    }
    assert sum(weight.numel() for weight in own.values()) == parameters
    # A and b: 32 x (32 + 32) + 32
    assert own["cell.A"].numel() + own["cell.b"].numel() == 2080
    # both start alike: widths of the uniform draws, and an orthogonal recurrent part
    for name in ("embedding.weight", "cell.A", "cell.b"):
        torch.testing.assert_close(own[name].std(), packages[name].std(), rtol=0.1, atol=0)
    recurrent = own["cell.A"][:, :32]
    torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(32), atol=1e-5, rtol=0)
    tokens = torch.randint(10_000, (20, 500))
    tokens[:10, :300] = 0
    model.load_state_dict(packages)
    # the head of all states adds up 16,000 products
    tolerance = {"last": 1.6e-6, "all": 4e-6}[readout]
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens), classifier(tokens), atol=tolerance, rtol=0)


@pytest.mark.skipif(not available(), reason="Keras and JAX are not installed (extra peers)")
def test_a_checkpoint_decides_the_same_in_keras(trained: Checkpoint, tmp_path: Path) -> None:
    tokens, file = tokens_of(trained), tmp_path / "array.npy"
    np.save(file, tokens)
    # in a process of its own: JAX would stay in this one, and warns of each later fork
    subprocess.run([sys.executable, "-c", IN_KERAS, str(trained.path), str(file)], check=True)
    with torch.inference_mode():
        expected = trained.classifier()(tokens)
    torch.testing.assert_close(torch.from_numpy(np.load(file))[:, 0], expected, atol=1e-5, rtol=0)


def test_the_picture_of_the_network_is_the_one_that_its_command_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network.main([str(tmp_path / "drawn.svg")])
    # the outlines of letters depend on matplotlib's version, what they say does not
    drawn, committed = (
        re.findall("<!-- (.*?) -->", path.read_text())
        for path in (tmp_path / "drawn.svg", Path(network.__file__).with_name("network.svg"))
    )
    assert drawn == committed
    shown = "\n".join(drawn)
    for readout, total in (("all states", 338_081), ("last state", 322_113)):
        assert f"{total:,} ({readout})" in shown
    cell = SimpleRNN()
    assert f"32 × 64 + 32 = {cell.A.numel() + cell.b.numel():,} weights" in shown
    with pytest.raises(SystemExit, match="2"):
        network.main(["drawn.gif"])
    assert "must end in .svg, .pdf or .png, got drawn.gif" in capsys.readouterr().err


def test_the_table_of_the_lecture_names_code_files_and_commands_that_are_there() -> None:
    home = Path(network.__file__).parent
    text = (home / "README.md").read_text()
    for name, target in re.findall(r"\[([^]]+)\]\(([\w./]+\.\w+)\)", text + (home / "lecture.ipynb").read_text()):
        file = home / target
        assert file.is_file(), target
        # a class or function stands in the file that it links to
        if file.suffix == ".py" and name.isidentifier():
            assert re.search(rf"^(class|def) {name}\b", file.read_text(), re.MULTILINE), name
    commands = re.findall(r"\| `(train|predict)( [^`]*)` \|", text)
    assert [name for name, _ in commands] == ["train"] * 7 + ["predict"]
    for name, options in commands:
        if name == "train":
            assert compose("train", *options.split())


def test_the_notebook_runs_and_shows_what_it_is_committed_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(network.__file__).with_name("lecture.ipynb")
    committed, trial = nbformat.read(file, 4), nbformat.read(file, 4)
    (parameters,) = (cell for cell in trial.cells if "parameters" in cell.metadata.get("tags", ()))
    assert parameters.source.startswith("BATCHES = 1.0 ")
    parameters.source = "BATCHES = 2"
    # nothing of the user's is read or written
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    # a notebook shows its pictures
    monkeypatch.delenv("MPLBACKEND")
    folder = {"metadata": {"path": str(file.parent)}}
    NotebookClient(trial, startup_timeout=240, coalesce_streams=True, resources=folder).execute()
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert file.stat().st_size < 200_000
    books = [[cell.outputs for cell in book.cells if cell.cell_type == "code"] for book in (committed, trial)]
    kinds, texts = [], []
    for outputs in books:
        kinds.append([[output.output_type for output in of_cell] for of_cell in outputs])
        texts.append("".join(output.get("text", "") for of_cell in outputs for output in of_cell))
    assert kinds[0] == kinds[1]
    for text in texts:
        # the loop by hand ends where the module does, and the plain model decides as the package's
        by_hand, module = re.findall(r"\[(.*)\]$", text, re.MULTILINE)[3:5]
        assert by_hand == module
        assert 0 < float(text.partition("largest difference of 250 logits: ")[2].split()[0]) < 1e-4
    sizes = [re.findall(r"^ .*,\d{3}$", text, re.MULTILINE) for text in texts]
    assert sizes[0] == sizes[1]
    assert sizes[0][-1].strip() == "338,081"
