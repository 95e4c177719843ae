"""What a user sees of a finished run and a finished sweep in TensorBoard, in its data and in a browser.

The environment variable RNN_IMDB_SCREENSHOTS names a folder for a picture of each tab.
"""

import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import chromium
import numpy as np
import pytest
from conftest import compose
from matplotlib import image

from rnn_imdb.training.announce import LINK
from rnn_imdb.training.run import train

SECONDS = 30
FIGURES = ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss")
SCALARS = {
    "train/loss_step",
    "learning_rate",
    *(f"{stage}/{name}" for stage in ("train", "validation", "test") for name in ("loss", "accuracy")),
    *(f"test/{name}" for name in ("auroc", "f1", "calibration_error")),
    *(f"best/{name}" for name in ("epoch", *FIGURES)),
}
JOBS = {f"sweep/{state_dim}_{seed}": (state_dim, seed) for state_dim in (4, 8) for seed in (0, 1)}
Result = TypeVar("Result")


def wait_for(look: Callable[[], Result], good: Callable[[Result], bool]) -> Result:
    """The first good thing that ``look`` finds."""
    deadline = time.monotonic() + SECONDS
    while not good(found := look()):
        assert time.monotonic() < deadline, f"still after {SECONDS} s: {str(found)[:3000]}"
        time.sleep(0.2)
    return found


@dataclass(frozen=True)
class Board:
    """A TensorBoard at ``url`` of the runs in ``folder``, with what ``train`` returned for each."""

    url: str
    folder: Path
    metrics: dict[str, dict[str, Any]]

    def get(self, path: str, request: dict[str, Any] | None = None) -> Any:
        """What its server answers, decoded where it is JSON."""
        content = None if request is None else json.dumps(request).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.url}data/{path}", content, {"Content-Type": "application/json"}),
            timeout=SECONDS,
        ) as answer:
            body = answer.read()
            return json.loads(body) if answer.headers.get_content_type() == "application/json" else body.decode()

    def tags(self, plugin: str, run: str = "run") -> set[str]:
        return set(self.get(f"plugin/{plugin}/tags").get(run, ()))

    def sessions(self) -> dict[str, dict[str, Any]]:
        """The rows of the HParams table by run."""
        statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
        request = {"experimentName": "", "allowedStatuses": statuses, "startIndex": 0, "sliceSize": 100}
        groups = self.get("plugin/hparams/session_groups", request).get("sessionGroups", ())
        return {session["name"]: group for group in groups for session in group["sessions"]}


@pytest.fixture(scope="module")
def board(small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """TensorBoard of a run with all callbacks and of the four jobs of a sweep."""
    folder = tmp_path_factory.mktemp("runs")
    quick = [*small_overrides, "trainer.log_every_n_steps=1", "optimizer.learning_rate=0.003"]
    metrics = {"run": train(compose("train", *quick, "callbacks=insight", "trainer.max_epochs=2"), folder / "run")}
    for name, (state_dim, seed) in JOBS.items():
        swept = ["sweep.swept=[model.state_dim,seed]", f"model.state_dim={state_dim}", f"seed={seed}"]
        metrics[name] = train(compose("train", *quick, *swept, "trainer.max_epochs=1"), folder / name)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            url = next(found[1] for line in lines if (found := re.search(r"TensorBoard .* at (http:\S+)", line)))
            running = Board(url, folder, metrics)
            # it reads the runs one after the other
            wait_for(running.sessions, lambda found: found.keys() == metrics.keys())
            wait_for(lambda: running.tags("scalars"), SCALARS.issubset)
            yield running
        finally:
            server.terminate()


def test_each_tab_has_its_data(board: Board) -> None:
    stages = ("validation", "test")
    assert board.tags("images") >= {f"{stage}/{name}" for stage in stages for name in ("reliability", "confusion")}
    assert board.tags("pr_curves") == {f"{stage}/precision_recall" for stage in stages}
    assert board.tags("text") == {f"{stage}/mistakes/text_summary" for stage in stages}
    for job in JOBS:
        assert board.tags("scalars", job) >= SCALARS
    curves = board.get("plugin/pr_curves/pr_curves?run=run&tag=validation/precision_recall")["run"]
    validations = board.get("plugin/scalars/scalars?run=run&tag=validation/loss")
    assert [curve["step"] for curve in curves] == [step for _, step, _ in validations]
    assert len(curves) == 2


def test_projector_finds_the_word_map(board: Board) -> None:
    assert board.get("plugin/projector/runs") == ["run"]
    (embedding,) = board.get("plugin/projector/info?run=run")["embeddings"]
    name = embedding["tensorName"]
    assert name.startswith("word_map")
    served = board.get(f"plugin/projector/metadata?run=run&name={name}")
    assert served == (board.folder / "run" / embedding["metadataPath"]).read_text()
    assert served.startswith("word\tfrequency\tpolarity\n")


def test_hparams_has_one_line_a_run_with_validation_and_test(board: Board) -> None:
    sessions = board.sessions()
    assert sessions.keys() == board.metrics.keys()
    for run, session in sessions.items():
        shown = {value["name"]["tag"]: value["value"] for value in session["metricValues"]}
        for name in FIGURES:
            assert shown[f"best/{name}"] == pytest.approx(board.metrics[run][name.replace("_", "/")]), (run, name)
        state_dim, seed = JOBS.get(run, (32, 0))
        assert (session["hparams"]["model.state_dim"], session["hparams"]["seed"]) == (state_dim, seed)
        assert session["hparams"]["parameters"] == board.metrics[run]["parameters"]
    # what differs comes first, then what is the same in all or only in one
    columns = board.get("plugin/hparams/experiment", {"experimentName": ""})["hparamInfos"]
    differing = ["model.state_dim", "parameters", "seed"]
    assert [column["name"] for column in columns[:3]] == differing
    assert [column["name"] for column in columns if column["differs"]] == differing


# the address of each tab, and what must be there to be read
TABS = {
    "custom_scalars": ("?" + LINK.partition("?")[2], ["curves", "loss", "accuracy", "Smoothing", *JOBS]),
    "scalars": ("#scalars&tagFilter=train%7Cvalidation/", ["train/loss_step", "validation/loss", *JOBS]),
    "images": (
        "#images&tagFilter=validation&regexInput=run",
        ["validation/reliability", "validation/confusion", "step 7"],
    ),
    "histograms": ("#histograms", ["insight/A_recurrent", "insight/A_input", "insight/embedding"]),
    "distributions": ("#distributions", ["insight/A_recurrent", "insight/A_input", "insight/embedding"]),
    "text": ("#text", ["test/mistakes", "validation/mistakes", "most confident mistakes", "P(positive)"]),
    "pr_curves": ("#pr_curves", ["test/precision_recall", "validation/precision_recall"]),
    "projector": ("#projector", ["word_map", "Label by", "polarity", "Total variance described"]),
    "hparams": ("#hparams", ["run", *JOBS, "model.state_dim", "best/validation_loss", "best/test_accuracy"]),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    """A browser."""
    path = chromium.find()
    if path is None:
        pytest.skip(f"none of {', '.join(chromium.NAMES)} is installed")
    with chromium.Chromium(path, tmp_path_factory.mktemp("profile")) as page:
        yield page


def is_drawn(picture: bytes) -> bool:
    """Whether there is more than a white page below TensorBoard's bar and right of its options, and no grey veil."""
    content = image.imread(io.BytesIO(picture))[120:, 400:, :3].reshape(-1, 3)
    return 0.2 < (content == 1).all(axis=1).mean() < 0.998 and len(np.unique(content, axis=0)) > 50


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_is_drawn_in_a_browser(board: Board, page: chromium.Chromium, tmp_path: Path, tab: str) -> None:
    address, words = TABS[tab]
    page.open(f"{board.url}{address}")
    wait_for(page.text, lambda text: all("".join(word.split()) in text for word in words))
    pictures = [b""]

    def is_ready() -> bool:
        pictures.append(page.screenshot())
        # the projector turns for ever
        still = pictures[-1] == pictures[-2] or tab == "projector"
        return still and is_drawn(pictures[-1])

    try:
        wait_for(is_ready, bool)
    finally:
        folder = Path(os.environ.get("RNN_IMDB_SCREENSHOTS", tmp_path))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{tab}.png").write_bytes(pictures[-1])
