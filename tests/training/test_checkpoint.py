"""Checkpoints on their own: opening, evaluating, and refusing what is none."""

import dataclasses
import errno
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from conftest import REVIEWS_PER_CLASS, compose, forget_later_options
from lightning.pytorch.callbacks import ModelCheckpoint

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, LAST
from rnn_imdb.data.archive import AclImdbReviews
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.sources import EmbeddedReviews
from rnn_imdb.insight.prediction import predict
from rnn_imdb.model.embedding import frequent_pairs
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.training import checkpoint, environment, resume
from rnn_imdb.training.checkpoint import open_checkpoint, read_checkpoint
from rnn_imdb.training.evaluation import evaluate
from rnn_imdb.training.module import SentimentModule
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import build_data

pytestmark = pytest.mark.usefixtures("places")


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(is_plain(item) for item in value)
    return value is None or type(value) in (int, float, str, bool) or isinstance(value, torch.Tensor)


@pytest.mark.parametrize("which", [BEST, LAST], ids=str)
def test_checkpoint_holds_only_tensors_and_plain_values(trained: Path, which: Path) -> None:
    content = torch.load(trained / which, weights_only=True)
    del content["optimizer_states"], content["loops"], content["callbacks"]
    assert is_plain(content)
    own = content["rnn_imdb"]
    assert own["vocabulary"][:2] == ["<pad>", "<unk>"]
    assert own["config"]["model"]["readout"] == "mean"
    assert own["versions"]["torch"] == torch.__version__
    assert len(own["training_ids"]) == 64


@pytest.mark.parametrize("split", ["test", "validation"])
def test_evaluation_repeats_trainings_figures_to_the_last_digit(
    trained: Path, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scored = evaluate(trained, split=split, output=trained)
    expected = {name: value for name, value in metrics_of(trained).items() if name.startswith(f"{split}/")}
    assert expected
    assert {name: scored[name] for name in expected} == expected
    written = json.loads((trained / f"evaluation_aclimdb_{split}.json").read_text())
    assert {name: written[name] for name in scored} == scored


def test_evaluation_as_a_command(trained: Path, command: Any, tmp_path: Path) -> None:
    done = command("evaluate", f"checkpoint={trained / LAST}", "split=train", f"output={tmp_path / 'm.json'}")
    assert done.returncode == 0, done.stderr
    assert f"train of epoch {metrics_of(trained)['epochs']} on 64 aclimdb reviews: loss" in done.stdout
    assert "train/auroc" in json.loads((tmp_path / "m.json").read_text())


def test_scoring_training_reviews_is_refused_unless_asked_for(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"validation reviews must be none .* was trained on \d+ of these 16: "):
        evaluate(trained, split="validation", data={"split_seed": 1})
    scored = evaluate(trained, split="train", data={"split_seed": 1}, output=str(tmp_path / "train.json"))
    assert scored["train/accuracy"] > 0.5


def test_official_training_reviews_are_recognised_in_the_embedded_source(
    trained: Path, small_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = [review for review in AclImdbReviews(small_archive, REVIEWS_PER_CLASS).read() if review.half == "train"]
    monkeypatch.setattr(EmbeddedReviews, "read", lambda _: half)
    monkeypatch.setattr(EmbeddedReviews, "fingerprint", lambda _: "the training half of the small archive")
    with pytest.raises(UserError, match=r"was trained on [1-8] of these 8: "):
        evaluate(trained, data={"source": "embedded", "cache_dir": str(tmp_path), "split_seed": 1})


def test_other_length_is_scored_where_the_head_allows_it(trained: Path, tmp_path: Path) -> None:
    scored = evaluate(trained, data={"sequence_length": 60}, output=str(tmp_path / "longer.json"))
    assert scored["test/accuracy"] > 0.5


def test_other_length_is_refused_where_the_head_fixes_it(small_overrides: list[str], tmp_path: Path) -> None:
    train(compose("train", *small_overrides, "model.readout=all", "trainer.max_epochs=1"), tmp_path / "all")
    with pytest.raises(UserError, match=r"data.sequence_length must be 30 .* got 60"):
        evaluate(tmp_path / "all", data={"sequence_length": 60})


def test_other_length_is_refused_where_an_encoder_fixes_it(small_overrides: list[str], tmp_path: Path) -> None:
    for encoder in ("dense", "conv"):
        options = [f"model.encoder={encoder}", "trainer.max_epochs=1"]
        train(compose("train", *small_overrides, *options), tmp_path / encoder)
    with pytest.raises(UserError, match=r"sequence_length must be 30 .* whose encoder dense has .* got 60"):
        evaluate(tmp_path / "dense", data={"sequence_length": 60})
    for encoder, length in (("dense", 30), ("conv", 60)):
        scored = evaluate(tmp_path / encoder, data={"sequence_length": length}, output=str(tmp_path / "m.json"))
        if encoder == "dense":
            assert scored["test/loss"] == metrics_of(tmp_path / "dense")["test/loss"]


@pytest.fixture(scope="module")
def reading_five(small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reads five words of each review."""
    folder = tmp_path_factory.mktemp("runs") / "five"
    train(compose("train", *small_overrides, "data.first_words=5", "trainer.max_epochs=1"), folder)
    return folder


def test_evaluation_reads_the_words_of_the_training_unless_told(reading_five: Path, tmp_path: Path) -> None:
    own = metrics_of(reading_five)["test/loss"]
    losses = {}
    for name, data in {"own": {}, "all": {"first_words": 30}, "last": {"last_words": 5}}.items():
        losses[name] = evaluate(reading_five, data=data, output=str(tmp_path / "m.json"))["test/loss"]
        written = json.loads((tmp_path / "m.json").read_text())["data"]
        assert (written["first_words"], written["last_words"]) == {"own": (5, None), "all": (30, None)}.get(
            name, (None, 5)
        )
    assert losses["own"] == own
    assert len(set(losses.values())) == 3


def test_checkpoint_of_an_earlier_version_opens(trained: Path, tmp_path: Path) -> None:
    content = torch.load(trained / BEST, weights_only=True)
    forget_later_options(content["rnn_imdb"]["config"])
    torch.save(content, tmp_path / "earlier.ckpt")
    texts = ["A wonderful film.", "awful and dull"]
    assert predict(open_checkpoint(tmp_path / "earlier.ckpt"), texts) == predict(open_checkpoint(trained), texts)
    scored = evaluate(tmp_path / "earlier.ckpt", output=str(tmp_path / "m.json"))
    assert scored["test/loss"] == metrics_of(trained)["test/loss"]


@pytest.mark.parametrize("weights_only", [False, True])
def test_checkpoint_of_ones_own_trainer_opens(
    small_data: dict[str, Any], small_archive: Path, tmp_path: Path, weights_only: bool
) -> None:
    environment.start(0)
    data = IMDBDataModule(**small_data)
    kept = ModelCheckpoint(tmp_path, "own", save_weights_only=weights_only)
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(max_epochs=3, callbacks=[kept], accelerator="cpu", **quiet)
    with pytest.raises(UserError, match=r"a vector for each of the 68 words of its data, got 10,000: give vocabulary_"):
        trainer.fit(SentimentModule(ReviewClassifier()), data)
    classifier = ReviewClassifier(vocabulary_size=68, state_dim=9, readout="mean", bigrams=7)
    module = SentimentModule(classifier, learning_rate=0.03, optimizer="adam")
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert figures["test/accuracy"] > 0.7
    path = tmp_path / "own.ckpt"
    assert evaluate(path, output=str(tmp_path / "m.json")) == figures
    # what Lightning's users expect of a module: probabilities, and the weights of a file
    outputs = trainer.predict(module, data.test_dataloader())
    tokens = next(iter(data.test_dataloader()))[0]
    loaded = SentimentModule.load_from_checkpoint(path, learning_rate=0.5)
    assert (loaded.optimizer, loaded.learning_rate, loaded.training) == ("adam", 0.5, True)
    assert torch.equal(torch.cat(outputs)[: len(tokens)], loaded(tokens).sigmoid())  # pyright: ignore
    assert torch.equal(loaded.predict_step(tokens, 0), loaded(tokens).sigmoid())
    text = AclImdbReviews(small_archive, REVIEWS_PER_CLASS).read()[0].text
    (found,) = predict(open_checkpoint(path), [text])
    assert found.known_words > 5


def test_module_of_a_run_is_loaded_as_lightnings_users_do(trained: Path) -> None:
    module, opened = SentimentModule.load_from_checkpoint(trained), open_checkpoint(trained)
    assert all(torch.equal(value, opened.weights[name]) for name, value in module.classifier.state_dict().items())
    assert module.learning_rate == 0.01
    assert module.configure_optimizers().param_groups[0]["alpha"] == 0.9  # pyright: ignore


def test_pairs_of_words_are_kept(small_overrides: list[str], tmp_path: Path) -> None:
    config = compose("train", *small_overrides, "model.bigrams=12")
    metrics = train(config, tmp_path)
    opened = open_checkpoint(tmp_path)
    pairs = frequent_pairs(build_data(config.data).split("train").tokens, 12)
    assert torch.equal(opened.pairs, pairs)
    assert opened.weights["bigrams.weight"].any(dim=1).all()
    scored = evaluate(tmp_path, output=str(tmp_path / "m.json"))
    assert scored["test/loss"] == metrics["test/loss"]
    content = torch.load(tmp_path / BEST, weights_only=True)
    del content["rnn_imdb"]["pairs"]
    torch.save(content, tmp_path / "without.ckpt")
    with pytest.raises(UserError, match="must be a checkpoint of rnn_imdb, but 'pairs' is missing"):
        open_checkpoint(tmp_path / "without.ckpt")


class Evil:
    """A pickle that would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_checkpoint_that_runs_code_is_refused_unrun(tmp_path: Path) -> None:
    torch.save({"rnn_imdb": Evil(tmp_path / "owned")}, tmp_path / "zip.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Evil(tmp_path / "owned"), protocol=2))
    for name in ("zip.ckpt", "plain.ckpt"):
        with pytest.raises(UserError, match="must be a checkpoint of plain values and tensors"):
            open_checkpoint(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_damaged_and_foreign_checkpoints_are_refused(trained: Path, tmp_path: Path) -> None:
    whole = (trained / BEST).read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.ckpt").write_bytes(b"")
    (tmp_path / "text.ckpt").write_text("a checkpoint, honestly")
    for name in ("cut.ckpt", "empty.ckpt", "text.ckpt"):
        with pytest.raises(UserError, match=f"{name} must be a checkpoint of plain values"):
            open_checkpoint(tmp_path / name)
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "foreign.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    for name in ("foreign.ckpt", "list.ckpt"):
        with pytest.raises(UserError, match=f"{name} must be a checkpoint of rnn_imdb"):
            open_checkpoint(tmp_path / name)
    content = torch.load(trained / BEST, weights_only=True)
    own = content["rnn_imdb"]
    content["rnn_imdb"] = own | {"format": 99, "versions": {"rnn_imdb": "7.5"}}
    torch.save(content, tmp_path / "later.ckpt")
    with pytest.raises(UserError, match=r"of rnn_imdb, but its format 99 is that of version 7\.5: name one"):
        open_checkpoint(tmp_path / "later.ckpt")
    for missing in own:
        content["rnn_imdb"] = {name: value for name, value in own.items() if name != missing}
        torch.save(content, tmp_path / "missing.ckpt")
        # a model without pairs of words needs none, and others are asked for by what trains on, or by one source
        if missing not in ("versions", "pairs", "reviews", "stopped", "rows", "training_texts"):
            with pytest.raises(UserError, match=f"must be a checkpoint of rnn_imdb, but '{missing}' is missing"):
                open_checkpoint(tmp_path / "missing.ckpt")
    content["rnn_imdb"] = own
    content["rnn_imdb"]["config"]["model"]["state_dim"] = 31
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="must hold weights that fit its configuration"):
        open_checkpoint(tmp_path / "other.ckpt").classifier()


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("config.data.sequence_length", -5, r"data\.sequence_length must be a whole number from 1 .* got -5"),
        ("config.data.sequence_length", "long", "'long'"),
        ("config.data.padding", "left", r"data\.padding must be one of pre, post, got 'left'"),
        ("config.data.first_words", 10**30, r"data\.first_words must be null"),
        ("config.model.readout", "median", r"model\.readout must be one of .* got 'median'"),
        ("config.model.state_dim", None, "Incompatible value 'None'"),
        ("config.model", [], "must be a checkpoint of rnn_imdb, but"),
        ("config.seed", -1, "seed is -1"),
        ("config.optimizer.name", "lion", "lion"),
        ("vocabulary", ["<pad>", "<unk>", "a", "a"], "each word once"),
        ("vocabulary", ["<pad>", "<unk>", 3], "a word of its vocabulary is no text"),
        ("vocabulary", ["<pad>", "<unk>"], "there are 2 words and 68 vectors of words"),
        ("training_ids", torch.zeros(3), "training_ids are no list"),
        ("training_ids", [1, 2], "training_ids are no list"),
        ("training_ids", torch.zeros(1, dtype=torch.int64).expand(10**12), "training_ids are no list"),
        ("epoch", -1, "epoch or global_step is no count"),
        ("global_step", "8", "epoch or global_step is no count"),
        ("state_dict", {"classifier.embedding.weight": "w"}, "a weight is no tensor"),
    ],
)
def test_value_that_no_training_writes_is_refused(
    trained: Path, key: str, value: Any, text: str, tmp_path: Path
) -> None:
    content = torch.load(trained / BEST, weights_only=True)
    node = content if key in content else content["rnn_imdb"]
    *path, name = key.split(".")
    for part in path:
        node = node[part]
    node[name] = value
    torch.save(content, tmp_path / "wrong.ckpt")
    with pytest.raises(UserError, match=text) as refusal:
        open_checkpoint(tmp_path / "wrong.ckpt")
    assert "wrong.ckpt" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_scan_that_runs_elsewhere_is_refused_before_the_first_batch(trained: Path, tmp_path: Path) -> None:
    content = torch.load(trained / BEST, weights_only=True)
    content["rnn_imdb"]["config"]["model"]["scan"] = "triton"
    torch.save(content, tmp_path / "elsewhere.ckpt")
    for command in (
        lambda path: predict(open_checkpoint(path), ["a film"]),
        lambda path: evaluate(path, accelerator="cpu"),
    ):
        with pytest.raises(UserError, match=r"triton runs in .* got .* on cpu: choose auto") as refusal:
            command(tmp_path / "elsewhere.ckpt")
        assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    "weight",
    [
        *(torch.zeros(1, 32, dtype=kind) for kind in (torch.complex64, torch.int64, torch.bool, torch.float8_e4m3fn)),
        torch.zeros(1, 32).to_sparse(),
        torch.zeros(1, 32, device="meta"),
        [torch.zeros(2), torch.zeros(3)],
    ],
    ids=lambda weight: "nested" if isinstance(weight, list) else f"{weight.dtype}, {weight.layout}, {weight.device}",
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_is_no_weight_is_refused(trained: Path, weight: torch.Tensor | list[torch.Tensor]) -> None:
    content = torch.load(trained / BEST, weights_only=True)
    weight = torch.nested.nested_tensor(weight) if isinstance(weight, list) else weight
    content["state_dict"]["classifier.head.weight"] = weight
    with pytest.raises(UserError, match="a weight is no tensor of real numbers"):
        read_checkpoint(trained / BEST, content)


@pytest.mark.parametrize(
    ("options", "weights", "text"),
    [
        # 1.3 terabytes
        ({"encoder": "dense", "state_dim": 4096, "embedding_dim": 4096}, {}, r"embedding\.weight is \(68, 32\) and"),
        ({"bidirectional": True}, {}, r"backward_cell\.A is missing and should be \("),
        ({"spectral_radius": 0.9}, {"head.weight": torch.zeros(1).expand(10**6, 10**6)}, r"head\.weight is \(1000000"),
        ({}, {"more": torch.zeros(1)}, r"more is \(1,\) and should be missing"),
    ],
)
def test_weights_of_another_model_are_refused_before_it_is_made(
    trained: Path, options: dict[str, Any], weights: dict[str, torch.Tensor], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_checkpoint(trained)
    data = {"data": opened.config["data"] | {"sequence_length": 20_000}}
    config = opened.config | data | {"model": opened.config["model"] | options}
    changed = dataclasses.replace(opened, config=config, weights=opened.weights | weights)
    made = []
    build = checkpoint.build_classifier
    monkeypatch.setattr(checkpoint, "build_classifier", lambda *of: made.append(build(*of)) or made[-1])
    with pytest.raises(UserError, match=rf"must hold weights that fit its configuration, but {text}"):
        changed.classifier()
    assert {weight.device.type for model in made for weight in model.parameters()} == {"meta"}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_read(trained: Path, kind: torch.dtype) -> None:
    content = torch.load(trained / BEST, weights_only=True)
    weight = content["state_dict"]["classifier.head.weight"].to(kind)
    content["state_dict"]["classifier.head.weight"] = weight
    assert torch.equal(read_checkpoint(trained / BEST, content).classifier().head.weight, weight.float())


def test_checkpoint_where_nobody_may_look_is_one_line(
    trained: Path, small_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def guarded(ask: Callable[..., Any]) -> Callable[..., Any]:
        def ask_within_limits(path: Any, *options: Any, **further: Any) -> Any:
            if trained in Path(path).parents:
                raise PermissionError(errno.EACCES, "Permission denied")
            return ask(path, *options, **further)

        return ask_within_limits

    monkeypatch.setattr(Path, "stat", guarded(Path.stat))
    monkeypatch.setattr(os, "open", guarded(os.open))
    for path in (trained, trained / BEST):
        with pytest.raises(UserError, match=rf"that may be read, but {path} is not \(Permission denied\)"):
            open_checkpoint(path)
    assert resume.newest_unfinished(trained.parent, compose("train", *small_overrides)) is None


@pytest.mark.parametrize(
    "pairs",
    [
        *(torch.tensor([3.0]), torch.tensor([2, 1]), torch.tensor([[1]]), "pairs"),
        torch.zeros(1, dtype=torch.int64).expand(10**12),
    ],
    ids=["real", "unsorted", "table", "text", "repeated"],
)
def test_pairs_that_cannot_be_looked_up_are_refused(trained: Path, pairs: Any) -> None:
    content = torch.load(trained / BEST, weights_only=True)
    content["rnn_imdb"]["config"]["model"]["bigrams"] = 2
    content["rnn_imdb"]["pairs"] = pairs
    with pytest.raises(UserError, match="pairs are no sorted numbers"):
        read_checkpoint(trained / BEST, content)


def test_flipped_byte_is_found_wherever_it_lies(trained: Path, tmp_path: Path) -> None:
    whole = (trained / BEST).read_bytes()
    with zipfile.ZipFile(trained / BEST) as archive:
        entries = archive.infolist()
    damaged = tmp_path / "damaged.ckpt"
    for entry in (entry for entry in entries if entry.file_size):
        # the content begins behind a header with the entry's name and padding
        name, extra = (
            int.from_bytes(whole[entry.header_offset + at : entry.header_offset + at + 2], "little") for at in (26, 28)
        )
        at = entry.header_offset + 30 + name + extra + entry.file_size // 2
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UserError, match=r"as it was written \(its entry .* is damaged"):
            open_checkpoint(damaged)


def test_checkpoint_that_unpacks_to_more_than_itself_is_refused(trained: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(trained / BEST) as whole:
        contents = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(tmp_path / "compressed.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match="its entries unpack to more than the file"):
        open_checkpoint(tmp_path / "compressed.ckpt")
    with zipfile.ZipFile(tmp_path / "large.ckpt", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        archive.infolist()[-1].file_size = 2**30
    with pytest.raises(UserError, match="its entries unpack to more than the file"):
        open_checkpoint(tmp_path / "large.ckpt")
    # as torch wrote before 1.6
    torch.save({"rnn_imdb": 1}, tmp_path / "legacy.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="File is not a zip file"):
        open_checkpoint(tmp_path / "legacy.ckpt")


def test_missing_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.ckpt does not exist"):
        open_checkpoint(tmp_path / "gone.ckpt")
    with pytest.raises(UserError, match=r"a run folder that holds checkpoints/best.ckpt"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(("accelerator", "message"), [("gpu", "gpu|GPU|cuda|CUDA"), ("cpus", "cpus")])
def test_evaluation_on_a_device_that_is_not_there_is_a_clear_error(
    trained: Path, accelerator: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=rf"must have arguments that Lightning accepts, .*({message})") as caught:
        evaluate(trained, accelerator=accelerator)
    assert caught.value.exit_code == 2
