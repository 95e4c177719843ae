"""What the callbacks show of the recurrence is true, and measuring changes nothing."""

import html
import io
import math
import re
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from conftest import compose
from matplotlib.image import imread
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import Tensor, nn

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import LAST
from rnn_imdb.common.style import look
from rnn_imdb.config.names import READOUTS
from rnn_imdb.data.splits import Split
from rnn_imdb.insight.callbacks import sample
from rnn_imdb.insight.figures import LONGEST_WORD, draw_forgetting, draw_states
from rnn_imdb.insight.forgetting import forgetting_curve, influence, memory_length, typical_curve
from rnn_imdb.insight.states import ReviewStates, hidden_states, saturated, short_positions, short_reviews
from rnn_imdb.model.embedding import frequent_pairs
from rnn_imdb.model.initialization import spectral_radius
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import build_data

V, T, E, H = 20, 7, 3, 5
# the others of callbacks=insight have tests of their own
INSIGHT = ["callbacks=insight", "~callbacks.word_map", "~callbacks.quality"]
# what every run has
FIGURES_OFF = ["callbacks=default"]
WITHOUT = ["~callbacks.forgetting", "~callbacks.states"]
SCALARS = {
    f"insight/{name}"
    for name in ("memory_length", "typical_memory_length", "saturated", "spectral_radius", "gradient_norm")
}
Train = Callable[..., Path]


@pytest.fixture
def run(small_overrides: list[str], tmp_path: Path) -> Train:
    """Train on the small archive, in ``tmp_path/FOLDER``, and give the folder."""

    def go(*overrides: str, folder: str = "run", resuming: bool = False) -> Path:
        options = ("test=false", "trainer.max_epochs=1", *overrides)
        train(compose("train", *small_overrides, *options), tmp_path / folder, resuming=resuming)
        return tmp_path / folder

    return go


@pytest.fixture(scope="module")
def measured(small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs with all that the callbacks can show."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    train(compose("train", *small_overrides, "test=false", "trainer.max_epochs=2", "callbacks=insight"), folder)
    return folder


@pytest.fixture
def in_style() -> Iterator[None]:
    with look():
        yield


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def classifier(readout: str = "last", **options: Any) -> ReviewClassifier:
    torch.manual_seed(0)
    sizes = {"vocabulary_size": V, "sequence_length": T, "embedding_dim": E, "state_dim": H}
    made = ReviewClassifier(readout=readout, **(sizes | options)).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.7)
    return made


def reviews() -> Tensor:
    """One full review, the others with padding in front, in between and behind, and one of nothing else."""
    tokens = torch.randint(1, V, (5, T), generator=torch.Generator().manual_seed(1))
    tokens[1, :3] = tokens[2, 2:4] = tokens[3, -2:] = tokens[4] = 0
    return tokens


def differences(model: ReviewClassifier, tokens: Tensor, step: float = 1e-6) -> np.ndarray:
    """‖∂ logit / ∂ x_t‖ (B, T) by central differences."""
    mask = tokens != 0 if model.mask_padding else None
    inputs = model.embedding.weight.detach()[tokens]
    slopes = torch.zeros_like(inputs)
    with torch.no_grad():
        for index in np.ndindex(*inputs.shape):
            shift = torch.zeros_like(inputs)
            shift[index] = step
            rise = model.logits_from(inputs + shift, mask) - model.logits_from(inputs - shift, mask)
            slopes[index] = rise[index[0]] / (2 * step)
    return slopes.square().sum(2).sqrt().numpy()


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("readout", list(READOUTS))
def test_influence_equals_finite_differences(readout: str, mask_padding: bool) -> None:
    model, tokens = classifier(readout, mask_padding=mask_padding), reviews()
    slopes = differences(model, tokens)
    found = influence(model, tokens).numpy()
    for row, words, slope in zip(found, tokens.numpy(), slopes, strict=True):
        expected = slope[words != 0] if mask_padding else slope
        np.testing.assert_allclose(row[: len(expected)], expected[::-1], rtol=1e-6, atol=1e-9)
        assert np.isnan(row[len(expected) :]).all()
    assert found[0].any()


def test_influence_is_a_product_of_jacobians() -> None:
    model, tokens = classifier("last"), reviews()[:1]
    A, b, w = (p.detach().numpy() for p in (model.cell.A, model.cell.b, model.head.weight[0]) if p is not None)
    W, A_x = A[:, :H], A[:, H:]
    states = [np.zeros(H)]
    for x in model.embedding.weight.detach().numpy()[tokens[0]]:
        states.append(np.tanh(W @ states[-1] + A_x @ x + b))
    expected, chain = [], w
    for state in states[:0:-1]:
        chain = chain * (1 - state**2)
        expected.append(np.linalg.norm(chain @ A_x))
        chain = chain @ W
    np.testing.assert_allclose(influence(model, tokens)[0], expected, rtol=1e-10)


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("readout", list(READOUTS))
def test_logits_from_embedded_words_are_those_of_the_words(readout: str, mask_padding: bool) -> None:
    model, tokens = classifier(readout, mask_padding=mask_padding), reviews()
    torch.testing.assert_close(model.logits_from(model.embedding(tokens), model.mask(tokens)), model(tokens))


def test_influence_leaves_the_classifier_as_it_was() -> None:
    model = classifier("attention").train()
    model(reviews()).sum().backward()
    before = {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters() if p.grad is not None}
    with torch.inference_mode(False), torch.no_grad():
        first = influence(model, reviews())
    assert len(before) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert parameter.grad is before[name][0]
        assert torch.equal(parameter.grad, before[name][1])
    assert model.training
    assert not first.requires_grad


def test_influence_of_many_reviews_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = classifier("max", mask_padding=True), reviews()
    whole = influence(model, tokens)
    monkeypatch.setattr("rnn_imdb.insight.forgetting.CHUNK", 2)
    torch.testing.assert_close(influence(model, tokens), whole, equal_nan=True)


def test_curves_are_mean_and_median_of_the_reviews_that_are_long_enough() -> None:
    nan = torch.nan
    norms = torch.tensor([[1.0, 5.0, nan], [900.0, nan, nan], [2.0, 7.0, nan], [3.0, 6.0, nan], [0.0, nan, nan]])
    assert forgetting_curve(norms).tolist() == pytest.approx([181.2, 6.0, 0.0])
    assert typical_curve(norms).tolist() == [2.0, 6.0, 0.0]


@pytest.mark.parametrize(
    ("curve", "length"),
    [
        ([1.0, 0.5, 0.009, 0.001], 2),
        # below the threshold once is not yet forgotten
        ([1.0, 0.001, 0.02, 0.001], 3),
        # the maximum need not be the last word's
        ([0.1, 100.0, 0.9], 2),
        ([1.0, 1.0, 1.0], 3),
        ([1.0, 0.01], 2),
        ([0.0, 0.0], 0),
        ([5.0], 1),
    ],
)
def test_memory_length(curve: list[float], length: int) -> None:
    assert memory_length(torch.tensor(curve, dtype=torch.float64)) == length


def test_saturated_counts_states_at_words_alone() -> None:
    states = torch.tensor([[[0.99, 0.0], [-0.96, 0.97], [0.5, -0.94]], [[1.0, 1.0], [1.0, 1.0], [0.0, -1.0]]])
    words = torch.tensor([[True, True, True], [False, False, True]])
    assert saturated(states, words) == pytest.approx(4 / 8)
    assert saturated(states, torch.zeros_like(words)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_spectral_radius(dtype: torch.dtype) -> None:
    # a turn by 30 degrees scaled by 0.75, beside a real eigenvalue and a large entry that is none
    turn = 0.75 * torch.tensor([[3**0.5 / 2, -0.5, 9.0], [0.5, 3**0.5 / 2, 9.0], [0.0, 0.0, -0.25 / 0.75]])
    tolerance = 0.01 if dtype is torch.bfloat16 else 1e-6
    assert spectral_radius(turn.to(dtype)) == pytest.approx(0.75, rel=tolerance)
    # which LAPACK may not survive
    for value in (torch.nan, torch.inf):
        assert math.isnan(spectral_radius(turn.to(dtype).fill_(value)))


def split_of(tokens: Any, labels: Any) -> Split:
    ids = np.arange(len(labels), dtype=np.uint64)
    return Split(np.array(tokens, np.uint16), np.array(labels, np.uint8), ids, ids)


def test_shown_reviews_are_one_of_each_class_and_short() -> None:
    lengths = [60, 41, 45, 0, 39, 12, 20, 0]
    tokens = np.array([[0] * (60 - n) + [1] * n for n in lengths])
    split = split_of(tokens, [0, 0, 0, 0, 0, 1, 1, 1])
    assert short_positions(split) == [1, 6]
    assert short_positions(split_of(tokens[:2], [0, 0])) == [1]
    assert short_positions(split_of(tokens[[3]], [1])) == []


def test_sample_is_the_first_reviews() -> None:
    split = split_of(np.arange(1, 101)[:, None], np.arange(100) % 2)
    rows = sample(split, 5, torch.device("cpu"))
    assert rows.dtype == torch.int64
    assert rows[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert len(sample(split, 1000, torch.device("cpu"))) == len(sample(split, 100, torch.device("cpu"))) == 100


def assert_measuring_changed_nothing(measured: Path, plain: Path) -> None:
    saved, expected = (torch.load(folder / LAST, weights_only=True) for folder in (measured, plain))
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(saved[part], expected[part], rtol=0, atol=0)
    curves_there, curves_here = curves(plain), curves(measured)
    assert curves_here.keys() - curves_there.keys() == SCALARS
    assert {tag: curves_here[tag] for tag in curves_there} == curves_there
    validations = [step for step, _ in curves_there["validation/loss"]]
    for tag in SCALARS - {"insight/gradient_norm"}:
        assert [step for step, _ in curves_here[tag]] == validations, tag
    # also where there are validations within an epoch
    assert [step for step, _ in curves_here["insight/gradient_norm"]] == [3, 7]


def test_training_is_bitwise_the_same_with_the_callbacks(run: Train, measured: Path) -> None:
    assert_measuring_changed_nothing(measured, run(*WITHOUT, "trainer.max_epochs=2"))


OPTIONS = [
    ["trainer.precision=bf16-mixed", "model.readout=attention", "data.padding=post"],
    ["trainer.precision=64-true", "model.readout=all", "model.mask_padding=true"],
    ["trainer.precision=bf16-true", "model.readout=max", "trainer.limit_val_batches=1", "model.bias=false"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options_train_bitwise_the_same_with_the_callbacks(run: Train, options: list[str]) -> None:
    options = [*options, "trainer.max_epochs=2"]
    plain, plain_rng = run(*options, *WITHOUT, folder="plain"), torch.get_rng_state()
    measured, measured_rng = run(*options, *FIGURES_OFF, folder="measured"), torch.get_rng_state()
    assert_measuring_changed_nothing(measured, plain)
    assert torch.equal(measured_rng, plain_rng)


class GradientNorms(L.Callback):
    """Keeps the norm of every step's gradient."""

    seen: list[float] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        gradients = [p.grad.numpy().ravel() for p in pl_module.parameters() if p.grad is not None]
        self.seen.append(float(np.linalg.norm(np.concatenate(gradients))))


def test_scalars_are_those_of_the_weights(run: Train) -> None:
    probe = "+callbacks.probe._target_=test_insight.GradientNorms"
    GradientNorms.seen.clear()
    options = ["trainer.limit_train_batches=3", "trainer.gradient_clip_val=1e-3", "model.state_dim=6"]
    options += ["optimizer.learning_rate=0.1", "model.readout=mean", "callbacks.forgetting.reviews=5"]
    folder = run(*FIGURES_OFF, "callbacks.states.reviews=6", *options, probe, "trainer.max_epochs=2")
    found = {tag: [value for _, value in points] for tag, points in curves(folder).items()}
    # before clipping, of the last of three steps
    assert found["insight/gradient_norm"] == pytest.approx(GradientNorms.seen[2::3], rel=1e-5)
    assert min(GradientNorms.seen) > 1e-3
    model = open_checkpoint(folder / LAST).classifier()
    radius = np.abs(np.linalg.eigvals(model.cell.A.detach().numpy()[:, :6])).max()
    assert found["insight/spectral_radius"][-1] == pytest.approx(radius, rel=1e-5)
    split = build_data(OmegaConf.load(folder / "config.yaml").data).split("validation")
    tokens = sample(split, 5, torch.device("cpu"))
    norms = influence(model, tokens)
    assert found["insight/memory_length"][-1] == memory_length(forgetting_curve(norms))
    assert found["insight/typical_memory_length"][-1] == memory_length(typical_curve(norms))
    tokens = sample(split, 6, torch.device("cpu"))
    states = model.cell(model.embedding(tokens))[tokens != 0].detach().numpy()
    assert found["insight/saturated"][-1] == pytest.approx((abs(states) > 0.95).mean(), rel=1e-5)
    assert found["insight/saturated"][-1] > 0


def test_only_the_words_that_the_model_reads_are_measured(run: Train, small_data: dict[str, Any]) -> None:
    folder = run("callbacks=insight", "data.first_words=3", "data.padding=post", "model.bigrams=400")
    opened = open_checkpoint(folder / LAST)
    data = build_data({**small_data, "padding": "post"})
    rows = {name: np.where(np.arange(30) < 3, data.split(name).tokens, 0) for name in ("train", "validation")}
    first = {" ".join(opened.vocabulary.decode(row[:3])) for row in rows["validation"]}
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    (text,) = events.Tensors("validation/mistakes/text_summary")
    shown = re.findall(r"^\| [\d.]+% \| \w+ \| (.*) \|$", text.tensor_proto.string_val[0].decode(), re.MULTILINE)
    assert shown
    assert {html.unescape(review) for review in shown} <= first
    (metadata,) = folder.glob("*/word_map/metadata.tsv")
    frequencies = [int(line.split("\t")[1]) for line in metadata.read_text(encoding="utf-8").splitlines()[1:]]
    assert frequencies == np.bincount(rows["train"].ravel(), minlength=len(opened.vocabulary))[2:].tolist()
    assert torch.equal(opened.pairs, frequent_pairs(rows["train"], 400))
    norms = influence(opened.classifier(), torch.from_numpy(rows["validation"].astype(np.int64)))
    assert curves(folder)["insight/memory_length"][0][1] == memory_length(forgetting_curve(norms))


def test_tensorboard_gets_figures_and_histograms(measured: Path) -> None:
    events = EventAccumulator(str(measured), size_guidance={"images": 0, "histograms": 0}).Reload()
    model = open_checkpoint(measured / LAST).classifier()
    parts = {
        "A_recurrent": model.cell.recurrent_weight,
        "A_input": model.cell.input_weight,
        "embedding": model.embedding.weight,
    }
    for name, weights in parts.items():
        histograms = events.Histograms(f"insight/{name}")
        assert [histogram.step for histogram in histograms] == [0, 3, 7]
        last = histograms[-1].histogram_value
        assert (last.num, last.min, last.max) == (weights.numel(), weights.min().item(), weights.max().item())
    for tag in ("insight/forgetting", "insight/states"):
        images = events.Images(tag)
        assert [image.step for image in images] == [3, 7]
        picture = imread(io.BytesIO(images[-1].encoded_image_string))
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].std() > 0.05


def test_other_loggers_get_the_scalars(run: Train) -> None:
    header, *_ = (run(*FIGURES_OFF, "logger=csv") / "csv" / "metrics.csv").read_text().splitlines()
    assert set(header.split(",")) >= SCALARS


def test_a_resumed_run_shows_the_same(run: Train, measured: Path) -> None:
    # the second process is given an event file of its own by the second that it starts in
    run(*FIGURES_OFF)
    time.sleep(1.05)
    event_file_writer._global_uid = event_file_writer.AtomicCounter(0)
    resumed = run(*FIGURES_OFF, "trainer.max_epochs=2", resuming=True)
    expected, found = curves(measured), curves(resumed)
    assert {tag: found[tag] for tag in SCALARS} == {tag: expected[tag] for tag in SCALARS}
    assert all(len(found[tag]) == 2 for tag in SCALARS)


def test_fast_dev_run_keeps_nothing(run: Train) -> None:
    folder = run("callbacks=insight", "trainer.fast_dev_run=true")
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "config.yaml", "versions.json"]


class Poison(L.Callback):
    """Weights that are no numbers after the first epoch."""

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.classifier.cell.A.data.fill_(torch.nan)


def test_weights_that_are_no_numbers_are_not_measured(run: Train) -> None:
    found = curves(run(*INSIGHT, "+callbacks.probe._target_=test_insight.Poison"))
    assert np.isnan(found["validation/loss"][0][1])
    assert not SCALARS & set(found)


@pytest.mark.parametrize("encoder", ["dense", "conv"])
def test_a_classifier_without_recurrence_is_said_and_left_alone(
    run: Train, encoder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = curves(run(*INSIGHT, f"model.encoder={encoder}", "trainer.max_epochs=2"))
    printed = capsys.readouterr().out
    for name in ("ForgettingCurve", "StateHealth"):
        assert printed.count(f"{name} has nothing to show: the classifier has no recurrence that it knows\n") == 1
    assert "validation/loss" in found
    assert not SCALARS & set(found)


def test_a_linear_recurrence_has_no_saturation(run: Train) -> None:
    found = curves(run(*FIGURES_OFF, "model.activation=identity"))
    assert SCALARS - set(found) == {"insight/saturated"}


@pytest.mark.parametrize(
    "option", ["forgetting.reviews", "states.reviews", "quality.mistakes", "quality.words", "word_map.words"]
)
def test_a_number_that_cannot_be_is_refused(run: Train, option: str) -> None:
    with pytest.raises(UserError, match=rf"{option.partition('.')[2]} must be a whole number from 1, got 0"):
        run("callbacks=insight", f"callbacks.{option}=0")


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_without_tensorboard_nothing_is_drawn(run: Train, logger: str) -> None:
    folder = run("callbacks=insight", "test=true", f"logger={logger}")
    assert not [path for pattern in ("events*", "word_map", "projector*") for path in folder.rglob(pattern)]


def test_any_word_can_stand_in_a_picture(in_style: None) -> None:
    words = ["$1", "$$", "a$_$b", "\x96", "<unk>", "映画", "x" * 80, "naïve", "…", "^{"]
    states = np.random.default_rng(0).uniform(-1, 1, (len(words), 4)).astype(np.float32)
    figure = draw_states([ReviewStates(words, states, np.arange(4.0)[::-1], positive=True, probability=0.4)], epoch=1)
    figure.savefig(io.BytesIO(), format="png", dpi="figure")
    heat, colourbar = figure.axes
    assert "judged WRONGLY" in heat.get_title()
    assert [label.get_text() for label in heat.get_yticklabels()] == ["+3.00", "+2.00", "+1.00", "+0.00"]
    shown = [label.get_text() for label in heat.get_xticklabels()]
    assert shown[:5] == ["$1", "$$", "a$_$b", "\N{REPLACEMENT CHARACTER}", "<unk>"]
    assert shown[7:] == ["naïve", "…", "^{"]
    assert len(shown[6]) == LONGEST_WORD
    assert heat.images[0].get_clim() == (-1, 1)
    np.testing.assert_array_equal(heat.images[0].get_array(), states.T)
    inside = figure.get_window_extent()
    boxes = [label.get_window_extent() for label in (*heat.get_xticklabels(), *colourbar.get_yticklabels())]
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 for box in boxes)
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes[: len(words)]))


@pytest.mark.parametrize("norms", [torch.zeros(3, 4), torch.ones(2, 1), torch.full((2, 5), torch.nan)])
def test_any_curve_can_be_drawn(in_style: None, norms: Tensor) -> None:
    figure = draw_forgetting(norms, epoch=1)
    figure.savefig(io.BytesIO(), format="png", dpi="figure")
    assert figure.axes[0].get_yscale() == "log"


def test_a_memory_that_does_not_end_is_said_to_be_at_least_so_long(in_style: None) -> None:
    norms = torch.full((3, 40), 1.0)
    norms[:2, 10:] = 1e-4
    _, labels = draw_forgetting(norms, epoch=1).axes[0].get_legend_handles_labels()
    assert labels[1:] == ["mean of 3 reviews: memory length ≥ 40", "median: memory length 10"]


def test_states_stand_in_the_order_of_their_weights(run: Train) -> None:
    folder = run(*FIGURES_OFF, "model.bidirectional=true", "model.readout=mean_max", "model.state_dim=5")
    opened = open_checkpoint(folder / LAST)
    model, split = opened.classifier(), build_data(OmegaConf.load(folder / "config.yaml").data).split("validation")
    weights = model.head.weight.detach()[0].view(2, 2, 5)[:, 0].mean(0).numpy()
    for review, position in zip(short_reviews(model, split, opened.vocabulary), short_positions(split), strict=True):
        row = torch.from_numpy(split.tokens[position].astype(np.int64))
        states = hidden_states(model, row[None])[0, row > 0][-len(review.words) :].detach().numpy()
        np.testing.assert_array_equal(review.states, states[:, np.argsort(-weights)])
        np.testing.assert_allclose(review.weights, np.sort(weights)[::-1], rtol=1e-6)


def test_without_a_review_to_show_the_picture_is_empty(in_style: None) -> None:
    figure = draw_states([], epoch=1)
    figure.savefig(io.BytesIO(), format="png", dpi="figure")
    assert [axis.images[:] for axis in figure.axes] == [[]]
