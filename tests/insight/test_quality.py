"""What TensorBoard shows of the quality of predictions, against figures computed anew."""

import io
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import compose
from matplotlib import image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
from torchmetrics.classification import BinaryCalibrationError

from rnn_imdb.common.files import BEST, LAST
from rnn_imdb.data.text import Vocabulary
from rnn_imdb.insight.figures import draw_confusion, draw_reliability
from rnn_imdb.insight.quality import confusion, mistakes_table, reliability, worst_mistakes
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.module import SentimentModule
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import build_data

TARGET = "+callbacks.quality._target_=rnn_imdb.insight.callbacks.Quality"
QUICK = ["trainer.max_epochs=2", "optimizer.learning_rate=0.003", "model.readout=mean"]


def predictions(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (count,) float32 and labels (count,) uint8 that go together more often than not."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count).astype(np.uint8)
    return (generator.normal(0, 2, count) + labels).astype(np.float32), labels


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def precision_recall(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """True and false positives, true and false negatives, precision and recall at 127 thresholds, (6, 127)."""
    columns = []
    for threshold in np.arange(127) / 126:
        chosen = probabilities >= threshold
        hits, misses = (chosen & (labels == 1)).sum(), (~chosen & (labels == 1)).sum()
        columns.append(
            (
                hits,
                (chosen & (labels == 0)).sum(),
                (~chosen & (labels == 0)).sum(),
                misses,
                hits / max(chosen.sum(), 1e-7),
                hits / max((labels == 1).sum(), 1e-7),
            )
        )
    return np.array(columns).T


def html_of(markdown: str) -> str:
    """What TensorBoard makes of Markdown."""
    with warnings.catch_warnings():
        # its copy of bleach uses what its copy of html5lib calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard.plugin_util import markdown_to_safe_html
    return markdown_to_safe_html(markdown)


def rows_of(markdown: str) -> list[list[str]]:
    """The cells of a Markdown table, as TensorBoard shows them."""
    html = html_of(markdown)
    table = html[html.index("<table>") : html.index("</table>") + len("</table>")].replace("<br>", " ")
    return [["".join(cell.itertext()) for cell in row] for row in ElementTree.fromstring(table).iter("tr")]


def shown(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()


def assert_same_quality(one: Path, two: Path) -> None:
    """The runs in two folders show the same curves and mistakes, up to rounding of the probabilities."""
    first, second = shown(one), shown(two)
    assert first.Tags()["images"] == second.Tags()["images"]
    for stage in ("validation", "test"):
        curves, texts = (
            [events.Tensors(f"{stage}/{name}")[-1].tensor_proto for events in (first, second)]
            for name in ("precision_recall", "mistakes/text_summary")
        )
        counts = [tensor_util.make_ndarray(curve)[:4] for curve in curves]
        # a probability may have moved across a threshold
        np.testing.assert_allclose(counts[0], counts[1], atol=1)
        rows = [rows_of(text.string_val[0].decode())[1:] for text in texts]
        assert [row[1:] for row in rows[0]] == [row[1:] for row in rows[1]]


def test_reliability_is_its_formula() -> None:
    logits, labels = predictions()
    probabilities = sigmoid(logits)
    found = reliability(probabilities, labels)
    error = 0.0
    for index in range(15):
        inside = (probabilities >= index / 15) & (probabilities < (index + 1) / 15)
        assert found.counts[index] == inside.sum()
        if inside.any():
            assert found.probability[index] == pytest.approx(probabilities[inside].mean())
            assert found.positive[index] == pytest.approx(labels[inside].mean())
            error += inside.mean() * abs(labels[inside].mean() - probabilities[inside].mean())
    assert found.error == pytest.approx(error)
    metric = BinaryCalibrationError()(torch.from_numpy(probabilities), torch.from_numpy(labels))
    assert found.error == pytest.approx(metric.item(), abs=1e-6)


def test_reliability_of_extreme_probabilities() -> None:
    found = reliability(np.array([0.0, 1.0, 1.0], np.float32), np.array([0, 1, 0], np.uint8))
    assert found.counts.tolist() == [1, *[0] * 13, 2]
    assert (found.positive[0], found.positive[14]) == (0, 0.5)
    assert found.error == pytest.approx(1 / 3)


def test_confusion_counts_classes_by_predictions() -> None:
    logits, labels = predictions()
    counts = confusion(sigmoid(logits), labels)
    expected = [[((logits > 0) == prediction)[labels == label].sum() for prediction in (0, 1)] for label in (0, 1)]
    assert counts.tolist() == expected
    # one class alone
    assert confusion(np.array([0.5, 0.6]), np.array([1, 1], np.uint8)).tolist() == [[0, 0], [1, 1]]


def test_worst_mistakes_are_the_surest_ones() -> None:
    logits = np.array([3.0, -1.0, 9.0, -7.0, 0.5, -40.0, 30.0, 20.0], np.float32)
    labels = np.array([0, 1, 1, 1, 0, 0, 0, 0], np.uint8)
    # also where float32 rounds several probabilities to 1
    assert worst_mistakes(logits, labels, 4).tolist() == [6, 7, 3, 0]
    assert worst_mistakes(logits, labels, 99).tolist() == [6, 7, 3, 0, 1, 4]
    assert worst_mistakes(logits, (logits > 0).astype(np.uint8), 4).tolist() == []


def test_table_of_mistakes_shows_words_unchanged() -> None:
    strange = ["a|b", "*bold*", "<b>x</b>", "`code`", "_i_", "\\", "[l](u)", "&amp;", "#", "|", "~", "$x$", "ünï", "1."]
    vocabulary = Vocabulary(["<pad>", "<unk>", *strange])
    everything = np.array([0, 0, *range(1, len(vocabulary))], np.uint16)
    rows = np.stack([everything, np.roll(everything, -2), np.zeros_like(everything)])
    table = mistakes_table(rows, np.array([1, 0, 1], np.uint8), np.array([0.0123, 0.98765, 0.5]), vocabulary, 99)
    text = " ".join(["<unk>", *strange])
    assert rows_of(table)[1:] == [["1.23%", "positive", text], ["98.77%", "negative", text], ["50.00%", "positive", ""]]
    assert "<code>&lt;unk&gt;</code>" in html_of(table)
    short = mistakes_table(rows[:1], np.array([1], np.uint8), np.array([0.1]), vocabulary, 3)
    assert rows_of(short)[1][2] == "… $x$ ünï 1."
    assert "the last 3 of them" in short
    none = mistakes_table(rows[:0], np.array([], np.uint8), np.array([]), vocabulary, 3)
    assert none == "No mistakes."


def test_plots_show_the_figures() -> None:
    logits, labels = predictions()
    probabilities = sigmoid(logits)
    found = reliability(probabilities, labels)
    figure = draw_reliability(found, "test of 400 reviews")
    above, below = figure.axes
    filled = found.counts > 0
    assert np.array_equal(above.lines[1].get_xydata(), np.stack([found.probability, found.positive], 1)[filled])
    assert [bar.get_height() for bar in below.patches] == found.counts.tolist()
    assert f"test of 400 reviews\nexpected calibration error {found.error:.4f}" in figure.get_suptitle()
    counts = confusion(probabilities, labels)
    figure = draw_confusion(counts, "test of 400 reviews")
    (axis,) = figure.axes
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    assert texts[1, 0].startswith(f"{counts[0, 1]:,}\n{counts[0, 1] / counts[0].sum():.1%} of negative")
    assert texts[0, 1].startswith(f"{counts[1, 0]:,}\n{counts[1, 0] / counts[1].sum():.1%} of positive")
    assert f"accuracy {((logits > 0) == labels).mean():.2%}" in figure.get_suptitle()


# batches of 5: all 16 and 80 reviews, and some of them
@pytest.mark.parametrize("limits", [{"validation": 4, "test": 16}, {"validation": 3, "test": 11}])
def test_run_shows_each_validation_and_the_test(
    small_overrides: list[str], tmp_path: Path, limits: dict[str, int]
) -> None:
    options = [f"trainer.limit_val_batches={limits['validation']}", f"trainer.limit_test_batches={limits['test']}"]
    options += ["data.evaluation_batch_size=5", "+callbacks.quality.mistakes=4", "+callbacks.quality.words=6"]
    config = compose("train", *small_overrides, *QUICK, TARGET, *options)
    metrics = train(config, tmp_path / "run")
    data, events = build_data(config.data), shown(tmp_path / "run")
    for stage, which in (("validation", LAST), ("test", BEST)):
        split = data.split(stage)
        many = min(5 * limits[stage], len(split.labels))
        tokens, labels = split.tokens[:many], split.labels[:many]
        with torch.inference_mode():
            logits = open_checkpoint(tmp_path / "run" / which).classifier()(torch.from_numpy(tokens.astype(np.int64)))
        probabilities = sigmoid(logits.numpy())

        steps = [event.step for event in events.Scalars(f"{stage}/loss")]
        assert len(steps) == (2 if stage == "validation" else 1)
        for name in ("reliability", "confusion"):
            drawn = events.Images(f"{stage}/{name}")
            assert [event.step for event in drawn] == steps
            pixels = image.imread(io.BytesIO(drawn[-1].encoded_image_string))
            assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20
        curves, texts = (events.Tensors(f"{stage}/{name}") for name in ("precision_recall", "mistakes/text_summary"))
        assert [event.step for event in curves] == [event.step for event in texts] == steps
        curve = tensor_util.make_ndarray(curves[-1].tensor_proto)
        np.testing.assert_allclose(curve, precision_recall(probabilities, labels), rtol=1e-6)

        wrong = np.flatnonzero((probabilities > 0.5) != labels)
        worst = sorted(wrong, key=lambda i: -abs(logits[i].item()))[:4]
        rows = rows_of(texts[-1].tensor_proto.string_val[0].decode())[1:]
        expected = []
        for i in worst:
            words = data.vocabulary.decode(token for token in tokens[i] if token)
            text = " ".join(words[-6:]) if len(words) <= 6 else f"… {' '.join(words[-6:])}"
            expected.append([f"{probabilities[i]:.2%}", ("negative", "positive")[labels[i]], text])
        assert rows == expected
    found = reliability(probabilities, labels)
    assert found.error == pytest.approx(metrics["test/calibration_error"], abs=1e-5)
    assert confusion(probabilities, labels).trace() / many == pytest.approx(metrics["test/accuracy"])


def test_quality_changes_nothing_about_the_training(small_overrides: list[str], tmp_path: Path) -> None:
    runs = {"with": [TARGET], "without": []}
    results = [
        train(compose("train", *small_overrides, *QUICK, *callbacks), tmp_path / name)
        for name, callbacks in runs.items()
    ]
    first, second = (torch.load(tmp_path / name / LAST, weights_only=True) for name in runs)
    for kind in ("state_dict", "optimizer_states", "loops"):
        torch.testing.assert_close(first[kind], second[kind], rtol=0, atol=0)
    for timed in (figures for result in results for figures in (result, *result["history"])):
        del timed["seconds"]
    assert results[0] == results[1]


# torchmetrics says so of the loss
@pytest.mark.filterwarnings("ignore:Encountered `nan` values")
def test_logits_that_are_no_numbers_are_not_shown(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(module: SentimentModule) -> None:
        torch.nn.init.constant_(module.classifier.head.bias, torch.nan)

    monkeypatch.setattr(SentimentModule, "on_validation_start", spoil)
    train(compose("train", *small_overrides, TARGET, "trainer.max_epochs=1", "test=false"), tmp_path / "run")
    events = shown(tmp_path / "run")
    assert np.isnan(events.Scalars("validation/loss")[0].value)
    # but for the layout of the charts
    assert (events.Tags()["images"], events.Tags()["tensors"]) == ([], ["custom_scalars__config__"])
