"""A review word by word: values against NumPy, prefixes and finite differences; as text, colours, JSON and picture."""

import io
import json
import os
import pty
import re
import struct
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.backend_bases
import numpy as np
import pytest
import torch
from conftest import compose
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from omegaconf import OmegaConf
from torch import Tensor, nn

from rnn_imdb.common.console import display_width
from rnn_imdb.common.style import look
from rnn_imdb.data.splits import Split
from rnn_imdb.data.text import Vocabulary, fit_length, keep_words
from rnn_imdb.insight.explanation import SO_FAR, Explanation, Padding, Word, explain
from rnn_imdb.insight.explanation_plot import MOST_TICKS, draw, spread_out, write_plot
from rnn_imdb.insight.explanation_text import coloured_text, plain_text
from rnn_imdb.insight.inputs import PICTURES
from rnn_imdb.insight.prediction import predict
from rnn_imdb.model import make_classifier
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.embedding import frequent_pairs
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.predict import main as command
from rnn_imdb.training.checkpoint import Checkpoint, build_classifier, make_content, open_checkpoint

V, T, E, H = 40, 12, 5, 7
RUNNING = ["last", "mean", "max", "mean_max", "attention"]
WORDS = ["wonderful", "moving", "film", "dull", "plot", "the", "and", ","]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def strong(readout: str = "last", **options: Any) -> ReviewClassifier:
    """A classifier in float64 with weights so large that every word counts."""
    torch.manual_seed(3)
    classifier = ReviewClassifier(
        vocabulary_size=V, sequence_length=T, embedding_dim=E, state_dim=H, readout=readout, **options
    ).double()
    # of all reviews that are explained
    rows = np.stack([row(count, "pre").numpy() for count in range(3, T + 1)])
    classifier.pairs = frequent_pairs(rows, options.get("bigrams", 0))
    with torch.no_grad():
        for parameter in classifier.parameters():
            nn.init.normal_(parameter, std=0.6)
    return classifier


def row(count: int, padding: str) -> Tensor:
    """``count`` words, the third unknown, padded to T."""
    words = torch.randint(2, V, (count,), generator=torch.Generator().manual_seed(count))
    words[2] = 1
    zeros = torch.zeros(T - count, dtype=torch.long)
    return torch.cat([zeros, words] if padding == "pre" else [words, zeros])


def explained(classifier: Classifier, tokens: Tensor) -> Explanation:
    """An explanation of a review that the model reads whole."""
    numbers = ((tokens > 0).cumsum(0) * (tokens > 0)).numpy()
    return explain(classifier, tokens, [f"word{number}" for number in range(numbers.max())], numbers)


def sigmoid(logit: Any) -> float:
    return float(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("padding", ["pre", "post"])
def test_last_equals_a_numpy_recurrence(padding: str, mask_padding: bool) -> None:
    classifier, tokens = strong(mask_padding=mask_padding), row(8, padding)
    explanation = explained(classifier, tokens)
    A, b, embedding = (p.detach().numpy() for p in (classifier.cell.A, classifier.cell.b, classifier.embedding.weight))
    w, c = classifier.head.weight[0].detach().numpy(), classifier.head.bias.item()
    state, before, after_each = np.zeros(H), sigmoid(c), []
    for token in tokens.tolist():
        if token or not mask_padding:
            state = np.tanh(A @ np.concatenate([state, embedding[token]]) + b)
        if token:
            after_each.append(sigmoid(w @ state + c))
        elif padding == "pre":
            before = sigmoid(w @ state + c)
    np.testing.assert_allclose([word.value for word in explanation.words], after_each, rtol=1e-12)
    np.testing.assert_allclose(explanation.before.value, before, rtol=1e-12)
    np.testing.assert_allclose(explanation.after.value, sigmoid(w @ state + c), rtol=1e-12)
    steps = 0 if mask_padding else 4
    assert (explanation.before.steps, explanation.after.steps) == ((steps, 0) if padding == "pre" else (0, steps))
    assert [word.known for word in explanation.words] == [True, True, False, *[True] * 5]
    assert np.ptp(after_each) > 0.1


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("readout", RUNNING)
def test_running_probabilities_are_those_of_the_review_cut_there(
    readout: str, padding: str, mask_padding: bool
) -> None:
    classifier, tokens = strong(readout, mask_padding=mask_padding), row(7, padding)
    explanation = explained(classifier, tokens)
    front = 5 if padding == "pre" else 0
    for position, word in enumerate(explanation.words):
        cut = classifier(tokens[None, : front + position + 1]).sigmoid().item()
        assert word.value == pytest.approx(cut, rel=1e-12)
    assert explanation.after.value == pytest.approx(classifier(tokens[None]).sigmoid().item(), rel=1e-12)
    assert explanation.before.value == pytest.approx(
        classifier(tokens[None, :front]).sigmoid().item() if front else classifier.head.bias.sigmoid().item(), rel=1e-12
    )
    assert explanation.quantity == "probability"


def test_a_review_without_padding_starts_at_the_state_zero() -> None:
    classifier = strong("mean")
    explanation = explained(classifier, row(T, "pre"))
    assert explanation.before == Padding(0, pytest.approx(classifier.head.bias.sigmoid().item()))
    assert explanation.after == Padding(0, pytest.approx(explanation.words[-1].value))


def not_recurrent(encoder: str) -> Classifier:
    classifier = make_classifier(encoder, vocabulary_size=V, sequence_length=T, embedding_dim=E, state_dim=E)
    torch.nn.init.normal_(classifier.embedding.weight)
    return classifier.double()


@pytest.mark.parametrize(
    "classifier",
    [
        *(strong("all"), strong("all", mask_padding=True), strong(bidirectional=True), strong("all", bigrams=70)),
        *(not_recurrent("dense"), not_recurrent("conv")),
    ],
    ids=["all", "masked", "bidirectional", "bigrams", "dense", "conv"],
)
@pytest.mark.parametrize("padding", ["pre", "post"])
def test_attributions_equal_finite_differences(classifier: Classifier, padding: str) -> None:
    tokens = row(7, padding)
    explanation = explained(classifier, tokens)
    mask = tokens[None] != 0 if classifier.mask_padding else None
    step, slopes = 1e-5, []
    with torch.no_grad():
        for t in range(T):
            scales = torch.ones(2, T, 1, dtype=torch.float64)
            scales[:, t] += torch.tensor([[step], [-step]])
            higher, lower = classifier.logits_from(
                classifier.embed(tokens[None]) * scales, None if mask is None else mask.expand(2, T)
            )
            slopes.append(float(higher - lower) / (2 * step))
    front = 5 if padding == "pre" else 0
    values = [word.value for word in explanation.words]
    np.testing.assert_allclose(values, slopes[front : front + 7], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(explanation.before.value, sum(slopes[:front]), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(explanation.after.value, sum(slopes[front + 7 :]), rtol=1e-5, atol=1e-9)
    assert explanation.quantity == "attribution"
    assert max(map(abs, values)) > 1e-4


def probabilities(values: list[float], **changes: Any) -> Explanation:
    """An explanation with the running probabilities ``values``."""
    words = [Word(f"word{number}", True, value, number + 1) for number, value in enumerate(values)]
    method = f"P(positive) after each word: the head applied to {max(SO_FAR.values(), key=len)}"
    plain = Explanation("probability", method, words, Padding(0, 0.5), Padding(0, values[-1]), len(values))
    return plain._replace(**changes)


def words_of(**values: float) -> list[Word]:
    return [Word(text, True, value, number) for number, (text, value) in enumerate(values.items(), 1)]


def test_changes_are_differences_and_the_strongest_come_first() -> None:
    explanation = probabilities([0.6, 0.2, 0.3, 0.9])
    np.testing.assert_allclose(explanation.changes(), [0.1, -0.4, 0.1, 0.6])
    assert explanation.strongest(2) == [3, 1]
    attributions = explanation._replace(quantity="attribution", words=words_of(a=-2.0, b=1.0))
    assert attributions.changes() == [-2.0, 1.0]
    assert attributions.strongest(5) == [0, 1]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a checkpoint file of an untrained model with the eight WORDS and T = 30."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(*overrides: str) -> Path:
        path = folder / f"{'_'.join(('model', *overrides))}.ckpt"
        if path.exists():
            return path
        config = compose("train", "data.sequence_length=30", "model.state_dim=6", "model.embedding_dim=4", *overrides)
        vocabulary = Vocabulary(["<pad>", "<unk>", *WORDS])
        torch.manual_seed(1)
        classifier = build_classifier(config, len(vocabulary))
        weights = classifier.state_dict()
        for weight in weights.values():
            weight.normal_(std=0.5)
        content = {
            "rnn_imdb": make_content(
                config, vocabulary, classifier.pairs, Split(*[np.zeros(0, np.uint64)] * 4), "none"
            ),
            "state_dict": {f"classifier.{name}": weight for name, weight in weights.items()},
            "epoch": 0,
            "global_step": 1,
        }
        torch.save(content, path)
        return path

    return make


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("readout", RUNNING)
def test_the_last_value_is_the_prediction(checkpoints: Any, readout: str, padding: str) -> None:
    opened = open_checkpoint(checkpoints(f"model.readout={readout}", f"data.padding={padding}"))
    (plain,) = predict(opened, ["A wonderful film, dull plot"])
    (shown,) = predict(opened, ["A wonderful film, dull plot"], explained=True)
    assert plain.explanation is None
    assert shown.explanation is not None
    assert shown.probability == plain.probability
    assert shown.explanation.after.value == pytest.approx(plain.probability, rel=1e-6)
    words = [(word.text, word.known) for word in shown.explanation.words]
    assert words == [("a", False), *((word, True) for word in ("wonderful", "film", ",", "dull", "plot"))]


CUTS = {
    "pre": ({"data.truncation": "pre"}, [*range(8, 38)], (7, 0, 0)),
    "post": ({"data.truncation": "post"}, [*range(1, 31)], (0, 0, 7)),
    "both": ({"data.truncation": "both"}, [*range(1, 8), *range(15, 38)], (0, 7, 0)),
    "first": ({"data.truncation": "both", "data.first_words": 10}, [*range(1, 8), 15, 16, 17], (0, 7, 20)),
    "last": ({"data.truncation": "both", "data.last_words": 10}, [*range(28, 38)], (27, 0, 0)),
    "behind": ({"data.truncation": "post", "data.last_words": 10}, [*range(21, 31)], (20, 0, 7)),
}


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize(("options", "numbers", "cut"), CUTS.values(), ids=CUTS)
def test_words_cut_off_are_counted(
    checkpoints: Any,
    options: dict[str, Any],
    numbers: list[int],
    cut: tuple[int, int, int],
    padding: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = checkpoints(f"data.padding={padding}", *(f"{key}={value}" for key, value in options.items()))
    words = [f"w{number}" for number in range(1, 38)]
    command([str(path), "--explain", " ".join(words)])
    lines = capsys.readouterr().out.splitlines()
    kept = [f"w{number}" for number in numbers]
    assert [line.split()[0] for line in lines if line.startswith("  ")] == kept
    said = {"in front": cut[0], "here": cut[1], "behind": cut[2]}
    expected = [
        f"cut {'out' if where == 'here' else 'off'} {where}, never read: {n} words" for where, n in said.items()
    ]
    expected = [line for line, n in zip(expected, said.values(), strict=True) if n]
    assert [line for line in lines if line.startswith("cut")] == expected
    if cut[1]:
        place = lines.index(f"cut out here, never read: {cut[1]} words")
        assert (lines[place - 1].split()[0], lines[place + 1].split()[0]) == ("w7", "w15")
    command([str(path), "--explain", "--json", " ".join(words)])
    (parsed,) = json.loads(capsys.readouterr().out)
    assert [(word["word"], word["number"]) for word in parsed["explanation"]] == list(zip(kept, numbers, strict=True))
    assert (parsed["words"], parsed["read_words"]) == (37, len(numbers))


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncation", ["pre", "post", "both"])
@pytest.mark.parametrize("limit", [{}, {"first_words": 5}, {"last_words": 5}, {"first_words": 99}], ids=str)
def test_words_beside_the_values_are_those_of_the_tokens(
    truncation: str, padding: str, limit: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"sequence_length": 9, "truncation": truncation, "padding": padding, **limit}
    config = compose("train", *(f"data.{name}={value}" for name, value in options.items()), "model.state_dim=2")
    vocabulary = Vocabulary(["<pad>", "<unk>", *(f"w{number}" for number in range(1, 31))])
    weights = build_classifier(config, len(vocabulary)).state_dict()
    plain: Any = OmegaConf.to_container(config)
    nothing = torch.empty(0, dtype=torch.int64)
    ids = nothing.numpy()
    checkpoint = Checkpoint(Path("c.ckpt"), {}, plain, vocabulary, nothing, ids, ids, 0, 1, weights)
    read: list[Tensor] = []
    forward = ReviewClassifier.forward
    monkeypatch.setattr(
        ReviewClassifier, "forward", lambda self, tokens: (read.append(tokens[0]), forward(self, tokens))[1]
    )
    lengths = [1, 2, 5, 8, 9, 10, 11, 18, 30]
    predictions = predict(checkpoint, [" ".join(vocabulary.words[2 : 2 + count]) for count in lengths], explained=True)
    for count, tokens, prediction in zip(lengths, read, predictions, strict=True):
        row = fit_length(np.arange(2, 2 + count), 9, padding, truncation)
        first, last = limit.get("first_words"), limit.get("last_words")
        assert tokens.tolist() == keep_words(row[None], padding, first=first, last=last)[0].tolist()
        explanation = prediction.explanation
        assert explanation is not None
        words = vocabulary.decode(tokens[tokens > 0].tolist())
        assert [word.text for word in explanation.words] == words
        assert [f"w{word.number}" for word in explanation.words] == words
        assert sum(explanation.cut) + len(words) == count == prediction.words
        assert prediction.read_words == len(words)


def gap() -> Explanation:
    """100 words of 500, of which 390 within and 10 behind were not read."""
    explanation = probabilities([0.5 + number / 400 for number in range(100)], total=500)
    words = [word._replace(number=word.number + 390 * (word.number > 25)) for word in explanation.words]
    return explanation._replace(words=words)


def test_a_gap_is_shown_where_it_is() -> None:
    seen = ESCAPE.sub("", coloured_text(gap(), 80)).splitlines()
    place = seen.index("cut out here, never read: 390 words")
    assert (seen[place - 1].split()[-1], seen[place + 1].split()[0]) == ("word24", "word25")
    assert "cut off behind, never read: 10 words" in seen
    listed = [line.split() for line in seen[seen.index("", place + 1) :] if re.search(r"word\d", line)]
    assert len(listed) == 8
    for *_, number, word in listed:
        assert int(number) == int(word[4:]) + (1 if int(word[4:]) < 25 else 391)


def test_the_axis_of_a_picture_counts_the_words_that_were_not_read() -> None:
    figure = draw(gap(), "title")
    figure.draw_without_rendering()
    (axis,) = figure.axes
    (line,) = [line for line in axis.lines if line.get_linestyle() == ":"]
    assert line.get_xdata() == [25.5, 25.5]
    shown = {label.get_position()[0]: label.get_text() for label in axis.get_xticklabels()}
    assert len(shown) > 4
    assert all(text == f"{place + 390 * (place > 25):g}" for place, text in shown.items())
    assert "cut out at the dotted line, never read: 390 words" in axis.get_xlabel().replace("\n", " ")


def test_piped_output_is_a_plain_line_for_each_word(checkpoints: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command([str(checkpoints()), "--explain", "A wonderful \x1b[31m film", "dull"])
    lines = capsys.readouterr().out.splitlines()
    assert "\x1b" not in "".join(lines)
    assert re.fullmatch(r"(positive|negative) +[\d.]+%  2 of 4 words known  A wonderful \[31m film", lines[0])
    assert lines[1] == "P(positive) after each word: the head applied to h_t"
    assert re.fullmatch(r"before the first word \(after 26 padding steps\): [\d.]+%", lines[2])
    shown = [re.fullmatch(r"  (\S+) +([\d.]+%)(  unknown)?", line) for line in lines[3:7]]
    assert all(shown)
    assert [(match[1], match[3]) for match in shown if match] == [
        ("a", "  unknown"),
        ("wonderful", None),
        ("[31m", "  unknown"),
        ("film", None),
    ]
    assert len({match.end(2) for match in shown if match}) == 1
    assert shown[-1] is not None
    assert shown[-1][2] in lines[0]
    assert lines[7] == ""
    assert len(lines) == 12


def test_padding_behind_the_words_has_the_last_line(checkpoints: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command([str(checkpoints("data.padding=post")), "--explain", "wonderful film"])
    first, *_, word, last = capsys.readouterr().out.splitlines()
    assert last == f"after 28 padding steps: {first.split()[1]}"
    assert first.split()[1] not in word


def test_text_of_attributions_says_so(checkpoints: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command([str(checkpoints("model.readout=all")), "--explain", "wonderful film"])
    _, method, padding, *words = capsys.readouterr().out.splitlines()
    assert method == "each word's part in the logit: gradient x embedding, (dlogit/dx_t) . x_t"
    assert re.fullmatch(r"28 padding steps before the words: [+-]\d\.\d{4}", padding)
    assert all(re.fullmatch(r"  \w+ +[+-]\d\.\d{4}", line) for line in words)


def on_terminal(monkeypatch: pytest.MonkeyPatch, *arguments: str, **environment: str) -> str:
    """What the command prints on a pseudo-terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    chunks: list[bytes] = []

    def drain() -> None:
        # reading ends with an error when the other side closes
        try:
            while chunk := os.read(ours, 65536):
                chunks.append(chunk)
        except OSError:
            return

    reader = threading.Thread(target=drain)
    reader.start()
    with io.TextIOWrapper(os.fdopen(theirs, "wb"), encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        command(arguments)
        monkeypatch.undo()
    reader.join()
    os.close(ours)
    return b"".join(chunks).decode().replace("\r\n", "\n")


def test_terminal_shows_the_review_in_colours(checkpoints: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a wonderful film and the moving plot , " * 3
    printed = on_terminal(monkeypatch, str(checkpoints()), "--explain", text)
    assert "\x1b[38;5;16;48;5;" in printed
    seen = ESCAPE.sub("", printed)
    assert max(map(len, seen.splitlines())) <= 80
    words = re.sub(r"(\w)[+-]", r"\1", seen)
    assert words.count("a? wonderful film and the moving plot ,") >= 2
    assert "0%" + " " * 29 + "100%" in seen
    assert len(seen.split("changed most")[1].strip().splitlines()) == 1 + 8


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_terminal_without_colours_is_plain(
    checkpoints: Any, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    printed = on_terminal(monkeypatch, str(checkpoints()), "--explain", "wonderful film", **environment)
    assert "\x1b" not in printed
    assert re.search(r"\n  film +[\d.]+%", printed)


def colours_of(words: list[str], text: str) -> list[str]:
    """The backgrounds of ``words`` in a coloured text."""
    return [re.findall(rf";48;5;(\d+)m{word}[+-]?\x1b", text)[0] for word in words]


def test_colours_run_from_orange_through_grey_to_blue_and_strong_words_have_a_sign() -> None:
    text = coloured_text(probabilities([0.0, 0.5, 1.0]), 80)
    assert colours_of(["word0", "word1", "word2"], text) == ["208", "255", "69"]
    words = [*words_of(bad=-0.2, so=0.0), Word("good", False, 0.1, 3)]
    text = coloured_text(probabilities([0.5], quantity="attribution", words=words), 80)
    assert colours_of(["bad", "so", "good"], text) == ["208", "255", "153"]
    assert "bad- so good+?" in ESCAPE.sub("", text)
    assert "-0.2000" + " " * 29 + "+0.2000" in ESCAPE.sub("", text)


@settings(max_examples=20)
@given(words=st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=20), columns=st.integers(80, 120))
def test_any_words_fit_the_terminal(words: list[str], columns: int) -> None:
    explanation = probabilities([0.5])._replace(
        words=[Word(word, False, 0.4, number) for number, word in enumerate(words, 1)]
    )
    coloured = ESCAPE.sub("", coloured_text(explanation, columns))
    for text in (coloured, plain_text(explanation)):
        assert all(character.isprintable() or character == "\n" for character in text)
    assert max(map(display_width, coloured.splitlines())) <= columns


def test_values_stand_in_one_column_whatever_the_words() -> None:
    words = [Word(text, True, 0.4, number) for number, text in enumerate(["映画🎬", "cafe\u0301", "film"], 1)]
    explanation = probabilities([0.5])._replace(words=words)
    lines = [line for line in plain_text(explanation).splitlines() if line.startswith("  ")]
    assert [display_width(line[: line.index("40.0%")]) for line in lines] == [2 + 6 + 3] * 3
    # 映画🎬 and its sign fill the line of seven columns, and the next word takes another
    assert ESCAPE.sub("", coloured_text(explanation, 7)).splitlines()[4:7] == [
        "映画🎬-",
        "cafe\u0301",
        "film",
    ]


def test_json_has_each_word(checkpoints: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command([str(checkpoints("data.padding=post")), "--json", "--explain", "dull café"])
    (parsed,) = json.loads(capsys.readouterr().out)
    assert parsed["method"] == "P(positive) after each word: the head applied to h_t"
    first, second = parsed["explanation"]
    assert (first["word"], first["known"], second["word"], second["known"]) == ("dull", True, "café", False)
    assert set(first) == {"word", "number", "known", "probability"}
    assert (first["number"], second["number"]) == (1, 2)
    assert parsed["padding_before"]["steps"] == 0
    assert parsed["padding_after"] == {"steps": 28, "probability": pytest.approx(parsed["probability"])}
    command([str(checkpoints("model.readout=all")), "--json", "--explain", "dull"])
    (parsed,) = json.loads(capsys.readouterr().out)
    assert set(parsed["explanation"][0]) == {"word", "number", "known", "attribution"}


@pytest.mark.parametrize("readout", ["last", "all"])
def test_plot_is_a_picture(checkpoints: Any, readout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "review.png"
    command([str(checkpoints(f"model.readout={readout}")), "--plot", str(path), "a dull film 🎬 $x_1$"])
    printed = capsys.readouterr().out
    assert printed.splitlines()[1:] == [f"wrote {path}"]
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (8 * 200, 5.9 * 200)


@pytest.mark.parametrize("end", PICTURES)
def test_every_promised_format_is_written(end: str, tmp_path: Path) -> None:
    assert end[1:] in matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    write_plot(probabilities([0.4, 0.9]), "title", tmp_path / f"review{end.upper()}")
    assert (tmp_path / f"review{end.upper()}").stat().st_size > 1000


@pytest.mark.parametrize("quantity", ["probability", "attribution"])
@pytest.mark.parametrize("count", [1, MOST_TICKS, 150])
def test_nothing_in_a_picture_is_cut_or_overlaps(count: int, quantity: Any) -> None:
    # the strongest words stand close together, at the end
    values = [0.5 + 0.4 * (-1) ** n * (n / count) ** 9 for n in range(1, count + 1)]
    explanation = probabilities(values, quantity=quantity, after=Padding(9, 0.3), total=100 + count)
    explanation = explanation._replace(words=[word._replace(number=100 + word.number) for word in explanation.words])
    with look():
        figure = draw(explanation, "a very long title " * 20)
        figure.draw_without_rendering()
        (axis,) = figure.axes
        texts = [*axis.texts, axis.xaxis.label, axis.yaxis.label, *figure.texts]
        names = axis.texts if count > MOST_TICKS else axis.get_xticklabels()
        # of the texts alone, without the lines from them
        boxes = sorted((Text.get_window_extent(text) for text in names), key=lambda box: box.x0)
        whole = figure.bbox
        for box in [*map(Text.get_window_extent, texts), *boxes]:
            assert whole.x0 <= box.x0 < box.x1 <= whole.x1
            assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert len(boxes) == (14 if count > MOST_TICKS else count + 2 * (quantity == "probability"))
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    label = axis.get_xlabel().replace("\n", " ")
    assert "cut off in front, never read: 100 words" in label
    bold = [name.get_text() for name in names if name.get_weight() == "bold"]
    strongest = [explanation.words[position].text for position in sorted(explanation.strongest(8))]
    assert bold == strongest * (count <= MOST_TICKS)
    assert ("bold: those that changed most" in label) == bool(bold)


@given(places=st.lists(st.integers(0, 500), min_size=1, max_size=14, unique=True).map(sorted))
def test_names_are_moved_apart_within_the_axis(places: list[int]) -> None:
    moved = spread_out(np.array(places), 12.0, 0.0, 500.0)
    assert (np.diff(moved) >= 12 - 1e-9).all()
    assert moved.min() >= 0
    assert moved.max() <= 500
    if (np.diff(places) >= 12).all():
        np.testing.assert_allclose(moved, places)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "a.png", "one", "two"], "--plot must be about one text, got 2: give one, or leave --plot out"),
        (["--plot", "a.gif", "one"], "--plot must end in .png, .pdf, .svg, .jpg, got a.gif: choose one of them"),
        (["--plot", "picture", "one"], "--plot must end in .png, .pdf, .svg, .jpg, got picture"),
        (["--plot", "no/where/a.png", "one"], "in a folder that can be written, got no/where/a.png: choose another"),
        (["--plot", "folder.png", "one"], "--plot must name a file, in a folder that can be written, got folder.png"),
        (["--plot", f"{'a' * 300}.png", "one"], "aaa.png: choose another"),
    ],
    ids=["texts", "extension", "none", "folder", "no file", "name"],
)
def test_pictures_that_cannot_be_are_refused_before_any_work(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SystemExit, match="2"):
        command(["nowhere.ckpt", *arguments])
    assert message in capsys.readouterr().err


def test_help_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        command(["--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "--explain" in text
    assert "--plot" in text
