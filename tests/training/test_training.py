"""A whole run on a small archive: training, its folder, its repeatability, TensorBoard."""

import csv
import json
import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from conftest import compose, small_reviews, write_archive
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers.logger import DummyLogger
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.nn import functional as F

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, LAST
from rnn_imdb.config.compose import conf_folder
from rnn_imdb.data.module import BatchSampler, IMDBDataModule, ReviewDataset
from rnn_imdb.data.splits import SPLITS
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.sweeps.results import read_jobs, write_csv
from rnn_imdb.training import board, environment
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.module import KEPT, EpochMetrics, SentimentModule
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import build_data, build_module, build_trainer

Train = Callable[..., dict[str, Any]]


@pytest.fixture
def run(small_overrides: list[str], tmp_path: Path) -> Train:
    """Train on the small archive, in ``tmp_path/FOLDER``."""

    def go(*overrides: str, folder: str = "run") -> dict[str, Any]:
        return train(compose("train", *small_overrides, *overrides), tmp_path / folder)

    return go


def weights(folder: Path, which: Path = LAST) -> dict[str, torch.Tensor]:
    return torch.load(folder / which, weights_only=True)["state_dict"]


def test_run_learns_and_leaves_its_folder(run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["optimizer.learning_rate=0.003", "trainer.max_epochs=10", "callbacks.early_stopping.patience=10"]
    metrics = run("model.readout=mean", *steps)
    assert metrics["test/accuracy"] > 0.9
    folder = tmp_path / "run"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["torch"] == torch.__version__
    assert {"rnn_imdb", "python", "processor", "cores", "kernel", "command", "commit"} < set(versions)
    assert (versions["threads"], versions["overrides"]) == (torch.get_num_threads(), [])
    config = OmegaConf.load(folder / "config.yaml")
    assert (config.model.state_dim, config.optimizer.learning_rate, config.seed) == (32, 0.003, 0)
    assert (folder / BEST).is_file()
    assert (folder / LAST).is_file()
    printed = capsys.readouterr()
    for text in ("readout mean", "validation", "10/10", "AUROC", "tensorboard --logdir", "rnn_imdb.predict"):
        assert text in printed.out
    # there are bars in a terminal alone
    assert printed.err == ""


def test_best_checkpoint_is_the_one_with_the_lowest_validation_loss(run: Train, tmp_path: Path) -> None:
    metrics = run("optimizer.learning_rate=0.03", "trainer.max_epochs=5", "callbacks.early_stopping.patience=5")
    rows = torch.load(tmp_path / "run" / LAST, weights_only=True)["rnn_imdb"]["rows"]
    losses = [row["validation/loss"] for row in rows]
    assert len(losses) == 5
    assert losses[metrics["best_epoch"] - 1] == min(losses) == metrics["validation/loss"]
    best = open_checkpoint(tmp_path / "run")
    assert metrics["weights"] == best.digest()
    best.weights["head.bias"].view(torch.int32).bitwise_xor_(1)
    assert metrics["weights"] != best.digest()


def test_early_stopping_ends_a_run_that_no_longer_improves_and_says_why(
    run: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    # a learning rate far too high: the loss does not fall again
    metrics = run("optimizer.learning_rate=5", "trainer.max_epochs=30")
    assert metrics["epochs"] < 30
    out = capsys.readouterr().out
    why = f"stopped after epoch {metrics['epochs']}: validation loss has not fallen for 2 epochs\n"
    assert why in out
    assert f"test of epoch {metrics['best_epoch']} on 80 aclimdb reviews: loss {metrics['test/loss']:.4f}" in out
    # each that was the best when it ended, and so the best last
    marked = [int(line.partition("/")[0]) for line in out.splitlines() if line.endswith("*")]
    losses = [row["validation/loss"] for row in metrics["history"]]
    assert marked == [epoch for epoch, loss in enumerate(losses, 1) if loss == min(losses[:epoch])]
    assert marked[-1] == metrics["best_epoch"]
    stopping = ("callbacks.early_stopping.monitor=validation/accuracy", "callbacks.early_stopping.mode=max")
    stopping += ("callbacks.early_stopping.patience=1", "+callbacks.early_stopping.min_delta=1", "test=false")
    run(*stopping, "trainer.max_epochs=9", "trainer.limit_test_batches=1", folder="other")
    out = capsys.readouterr().out
    assert "stopped after epoch 2: validation accuracy has not risen by more than 1 for 1 epoch\n" in out
    assert "best is epoch" in out


def test_lines_of_a_run_fit_a_terminal(
    run: Train, small_data: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    run("trainer.max_epochs=1", folder="experiments/runs/2026-11-25_14-03-07_readout-last")
    lines = capsys.readouterr().out.splitlines()
    # a path is never broken
    assert [line for line in lines if len(line) > 80] in ([], [f"          data.root={small_data['root']}"])
    assert "predict   python -m rnn_imdb.predict 2026-11-25_14-03-07 -i" in lines
    assert "1 thread on cpu" in "".join(lines)


@pytest.mark.parametrize("seed", [0, 7])
def test_same_seed_gives_bitwise_the_same_weights(run: Train, tmp_path: Path, seed: int) -> None:
    results = [run(f"seed={seed}", "trainer.max_epochs=2", folder=name) for name in ("a", "b")]
    first, second = (weights(tmp_path / name) for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for timed in (figures for result in results for figures in (result, *result["history"])):
        del timed["seconds"]
    assert results[0] == results[1]


def test_other_seed_gives_other_weights(run: Train, tmp_path: Path) -> None:
    for seed in (0, 1):
        run(f"seed={seed}", "trainer.max_epochs=1", folder=str(seed))
    assert not torch.equal(weights(tmp_path / "0")["classifier.cell.A"], weights(tmp_path / "1")["classifier.cell.A"])


def test_sampler_orders_depend_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = BatchSampler(100, 32, seed)
        sampler.set_epoch(epoch)
        return [int(i) for batch in sampler for i in batch]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(*key)) for key in ((0, 0), (0, 1), (1, 0), (1, 1))}) == 4


def test_without_test_the_test_reviews_stay_unread(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[int] = set()
    getitem = ReviewDataset.__getitem__

    def watched(self: ReviewDataset, positions: Any) -> Any:
        read.add(id(self.split))
        return getitem(self, positions)

    monkeypatch.setattr(ReviewDataset, "__getitem__", watched)
    metrics = run("test=false", "trainer.max_epochs=1")
    assert len(read) == 2
    assert "validation/accuracy" in metrics
    assert not any(name.startswith("test/") for name in metrics)
    run("trainer.max_epochs=1", folder="tested")
    assert len(read) == 2 + len(SPLITS)


def test_limited_splits_hold_both_classes(run: Train) -> None:
    limits = ["trainer.limit_val_batches=1", "trainer.limit_test_batches=2", "data.evaluation_batch_size=8"]
    metrics = run("model.readout=mean", "optimizer.learning_rate=0.01", "trainer.max_epochs=6", *limits)
    # of one class alone, both would be 0
    assert metrics["test/auroc"] > 0.7
    assert metrics["test/f1"] > 0.5


def test_figures_of_two_classes_are_unknown_for_one(
    run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("trainer.max_epochs=1", "trainer.limit_test_batches=1", "data.evaluation_batch_size=1")
    assert "AUROC nan  F1 nan" in capsys.readouterr().out
    (job,) = read_jobs(tmp_path / "run")
    assert job.status == "finished"
    assert math.isfinite(job.metrics["test/accuracy"])
    assert math.isnan(job.metrics["test/auroc"])
    write_csv([job], tmp_path / "results.csv")
    (row,) = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert (row["test/auroc"], row["test/f1"]) == ("nan", "nan")


def test_used_folder_is_never_written_over(run: Train, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"must be new or empty, but .*run is not"):
        run()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_folder_that_cannot_be_written_is_a_clear_error(run: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"the run folder .*file.run cannot be written \(.*Not a directory"):
        run(folder="file/run")


def test_empty_review_is_all_padding(small_overrides: list[str], tmp_path: Path) -> None:
    members = small_reviews() | {"aclImdb/train/pos/0_9.txt": b"", "aclImdb/test/neg/1_2.txt": b" \n"}
    archive = write_archive(tmp_path / "empty.tar.gz", members)
    options = [f"data.root={archive}", "model.mask_padding=true", "model.readout=attention", "trainer.max_epochs=1"]
    assert train(compose("train", *small_overrides, *options), tmp_path / "run")["test/loss"] < 5


def test_bars_are_shown_in_a_terminal(
    run: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run("trainer.max_epochs=1")
    printed = capsys.readouterr().err
    assert "Epoch 0:" in printed
    assert "Testing" in printed


def test_what_hydra_wrote_is_no_run(run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        options = ["hydra/job_logging=default", "hydra.output_subdir=.hydra", "hydra.job.name=train"]
        own = hydra_compose("train", [*options, f"hydra.runtime.output_dir={tmp_path}"], return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", own)
    for name in ("run", "used"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / "train.log").touch()
    assert run("trainer.max_epochs=1", "test=false")["epochs"] == 1
    (tmp_path / "used" / "thesis.txt").touch()
    with pytest.raises(UserError, match="must be new or empty"):
        run(folder="used")


def test_options_that_an_optimizer_refuses_are_a_clear_error() -> None:
    module = SentimentModule(ReviewClassifier(), optimizer="sgd", nesterov=True, momentum=0.0)
    with pytest.raises(UserError, match=r"such that SGD accepts them, but it says: Nesterov") as caught:
        module.configure_optimizers()
    assert caught.value.exit_code == 2


def test_constructors_have_the_defaults_of_the_recipe() -> None:
    built = build_module(compose("train"), 10_000)
    plain = SentimentModule(ReviewClassifier())
    optimizers: list[Any] = [module.configure_optimizers() for module in (built, plain)]
    groups = [{k: v for k, v in each.param_groups[0].items() if k != "params"} for each in optimizers]
    assert groups[0] == groups[1]
    assert plain.classifier.describe() == built.classifier.describe()
    data = (build_data(compose("train").data), IMDBDataModule())
    for name in ("encoding", "batch_size", "evaluation_batch_size", "first_words", "last_words"):
        assert getattr(data[0], name) == getattr(data[1], name), name
    assert type(data[0].source) is type(data[1].source)


def test_fast_dev_run_keeps_nothing(run: Train, tmp_path: Path) -> None:
    assert run("trainer.fast_dev_run=true") == {}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "config.yaml", "versions.json"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=adam"],
        ["optimizer=adamw", "trainer.gradient_clip_val=1.0"],
        ["optimizer=sgd", "trainer.accumulate_grad_batches=2"],
        ["trainer.precision=bf16-mixed", "model.readout=attention"],
        ["trainer.precision=64-true", "model.readout=all"],
        ["model.mask_padding=true", "model.readout=mean", "data.padding=post"],
        ["model.bias=false", "model.readout=max", "model.scan=reference"],
        ["model.activation=identity", "model.spectral_radius=0.9", "model.init=torch", "model.mask_padding=true"],
        ["model.activation=identity", "model.readout=mean", "trainer.precision=bf16-mixed"],
        ["model.encoder=dense", "model.init=torch", "data.last_words=5"],
        ["model.encoder=conv", "model.mask_padding=true", "data.first_words=5", "data.padding=post"],
        ["model.encoder=conv", "trainer.precision=bf16-mixed", "model.kernel_size=4"],
        ["trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"],
        ["logger=csv", "trainer.max_epochs=2"],
        ["logger=none", "data.truncation=post", "data.vocabulary_size=15"],
    ],
    ids=" ".join,
)
def test_options_work(run: Train, overrides: list[str]) -> None:
    metrics = run("trainer.max_epochs=1", *overrides)
    assert 0 < metrics["test/loss"] < 5


def test_callback_that_lacks_a_package_is_a_clear_error(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning.pytorch.accelerators.cpu._PSUTIL_AVAILABLE", False)
    monkeypatch.setattr("lightning.pytorch.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", False)
    with pytest.raises(UserError, match="psutil"):
        run("+callbacks.stats._target_=lightning.pytorch.callbacks.DeviceStatsMonitor")


def test_trainer_arguments_that_lightning_refuses_are_a_clear_error(run: Train) -> None:
    with pytest.raises(UserError, match=r"must have arguments that Lightning .*gradient_clip_algorithm. quick"):
        run("+trainer.gradient_clip_algorithm=quick", "trainer.gradient_clip_val=1.0")
    with pytest.raises(UserError, match=r"check 0\.01 of the `val_dataloader`"):
        run("trainer.limit_val_batches=0.01", folder="other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["model.scan=cpu", "trainer.precision=64-true"],
            r"cpu runs in torch\.float32 .* torch\.float64 on cpu: .*auto",
        ),
        (["model.scan=triton", "trainer.accelerator=cpu"], r"triton runs in torch\.float32 on a cuda device"),
        (["model.scan=cudnn", "model.mask_padding=true"], r"scan cudnn takes no mask.* choose auto, or bptt"),
        (["model.scan=reference", "model.activation=identity"], r"reference computes tanh alone, .*: choose auto"),
        (["model.scan=triton", "model.state_dim=129"], r"triton keeps W .* at most 128, got 129: choose auto"),
    ],
)
def test_scan_that_does_not_serve_the_run_is_a_clear_error(
    run: Train, tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(*options)
    assert caught.value.exit_code == 2
    # before the first batch: what a run writes once it begins is not there
    assert not list(tmp_path.rglob("versions.json"))


def test_outputs_of_an_epoch_are_kept_in_few_tensors() -> None:
    whole, batches, labels = EpochMetrics("test"), EpochMetrics("test"), torch.arange(300) % 2
    logits = torch.linspace(-3, 2, 300)
    whole.update(logits, labels)
    for part, label in zip(logits.split(3), labels.split(3), strict=True):
        batches.update(part, label)
        assert len(batches.logits) == len(batches.labels) < KEPT
    assert batches.compute() == whole.compute()


def test_metrics_of_an_epoch_do_not_depend_on_its_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    metrics, figures = EpochMetrics("test"), []
    logits, labels = torch.randn(300, generator=generator), torch.randint(2, (300,), generator=generator).float()
    for sizes in (300, 32, [250, 49, 1]):
        for batch in zip(logits.split(sizes), labels.split(sizes), strict=True):
            metrics.update(*batch)
        figures.append(metrics.compute())
        metrics.reset()
    assert figures[0] == figures[1] == figures[2]
    assert figures[0]["test/loss"] == pytest.approx(F.binary_cross_entropy_with_logits(logits, labels).item())
    assert figures[0]["test/accuracy"] == pytest.approx(((logits > 0) == labels).float().mean().item())
    above = logits[labels == 1][:, None] - logits[labels == 0] > 0
    assert figures[0]["test/auroc"] == pytest.approx(above.float().mean().item())


def test_callbacks_keep_the_hooks_that_they_fill(small_overrides: list[str], tmp_path: Path) -> None:
    called = []

    class Told(L.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            called.append("filled")

    told, replaced = Told(), L.Callback()
    replaced.on_before_backward = lambda *_: called.append("given")
    environment.start(0)
    config = compose("train", *small_overrides, "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    trainer = build_trainer(config, tmp_path, [told, replaced])
    data = build_data(config.data)
    trainer.fit(build_module(config, len(data.vocabulary)), data)
    assert called == ["given", "filled"]
    assert told.on_before_backward is None
    assert told.on_validation_end is not None
    assert trainer.checkpoint_callback is not None
    assert trainer.checkpoint_callback.best_model_path == str(tmp_path / BEST)  # pyright: ignore[reportAttributeAccessIssue]


def test_tensorboard_shows_curves_and_one_hparams_entry(run: Train, tmp_path: Path) -> None:
    metrics = run("trainer.max_epochs=2", "trainer.log_every_n_steps=1", "model.readout=mean", "seed=0")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    batches = len(BatchSampler(64, 16))
    assert [event.step for event in events.Scalars("train/loss_step")] == list(range(2 * batches))
    for tag in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "learning_rate"):
        assert len(events.Scalars(tag)) == 2, tag
    (test,) = events.Scalars("test/accuracy")
    assert test.value == pytest.approx(metrics["test/accuracy"])
    # where the board shows the validation of the same weights
    assert test.step == events.Scalars("validation/accuracy")[metrics["best_epoch"] - 1].step
    best = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"] if tag.startswith("best/")}
    assert best.keys() == {
        "best/epoch",
        *(f"best/{s}_{n}" for s in ("validation", "test") for n in ("loss", "accuracy")),
    }
    for tag, (point,) in best.items():
        name = "best_epoch" if tag == "best/epoch" else tag.removeprefix("best/").replace("_", "/")
        assert (point.step, point.value) == (test.step, pytest.approx(metrics[name])), tag
    # as a curve, the epoch is a staircase
    assert "epoch" not in events.Tags()["scalars"]
    plugin = events.PluginTagToContent("hparams")
    # a summary of the experiment would fix the columns for all runs beside this one
    assert plugin.keys() == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    # the module is generated, and a type checker does not see into it
    parsed = plugin_data_pb2.HParamsPluginData.FromString  # pyright: ignore[reportAttributeAccessIssue]
    start = parsed(plugin["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["model.readout"].string_value == "mean"
    assert start.hparams["seed"].number_value == 0
    assert start.hparams["parameters"].number_value == metrics["parameters"]


@pytest.mark.parametrize(
    ("swept", "columns"),
    [("seed,optimizer.learning_rate", ()), ("model.state_dim,seed", ("parameters",)), ("optimizer,seed", ())],
)
def test_hparams_of_a_job_are_what_its_sweep_varies(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swept: str, columns: tuple[str, ...]
) -> None:
    hydra = OmegaConf.create({"runtime": {"choices": {"optimizer": "rmsprop"}}})
    monkeypatch.setattr(board, "HydraConfig", SimpleNamespace(initialized=lambda: True, get=lambda: hydra))
    run(f"sweep.swept=[{swept}]", "trainer.max_epochs=1", "test=false", "trainer.limit_train_batches=1")
    plugin = EventAccumulator(str(tmp_path / "run")).Reload().PluginTagToContent("hparams")
    parsed = plugin_data_pb2.HParamsPluginData.FromString  # pyright: ignore[reportAttributeAccessIssue]
    found = parsed(plugin["_hparams_/session_start_info"]).session_start_info.hparams
    assert set(found) == {*swept.split(","), *columns}
    if "optimizer" in found:
        assert found["optimizer"].string_value == "rmsprop"


def test_training_loss_is_shown_at_every_nth_step_of_the_run(run: Train, tmp_path: Path) -> None:
    run("trainer.max_epochs=2", "trainer.log_every_n_steps=3")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("train/loss_step")] == [2, 5]


def test_every_logger_has_configuration_and_best_epoch_and_ends_with_its_run(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    class Experiment:
        def finish(self) -> None:
            ended.append(True)

    class Online(DummyLogger):
        """Goes on in the next run of the process, unless its experiment is finished."""

        def __init__(self, **_: Any) -> None:
            self._experiment: Any = Experiment()  # pyright: ignore[reportIncompatibleVariableOverride]

    monkeypatch.setattr(environment, "Online", Online, raising=False)
    both = ["logger=[tensorboard,csv]", "+logger.online._target_=rnn_imdb.training.environment.Online"]
    config = compose("train", *small_overrides, *both, "trainer.max_epochs=2", "optimizer.learning_rate=0.02")
    metrics = train(config, tmp_path / "run")
    assert ended
    hparams: Any = OmegaConf.load(tmp_path / "run" / "csv" / "hparams.yaml")
    assert (hparams["model.state_dim"], hparams["optimizer.learning_rate"]) == (32, 0.02)
    *_, last = csv.DictReader((tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines())
    assert float(last["best/validation_loss"]) == pytest.approx(metrics["validation/loss"])
    assert float(last["best/epoch"]) == metrics["best_epoch"]
    assert EventAccumulator(str(tmp_path / "run")).Reload().Scalars("best/epoch")[0].value == metrics["best_epoch"]
    ended.clear()
    with pytest.raises(UserError):
        train(compose("train", *small_overrides, *both, "trainer.limit_val_batches=0.01"), tmp_path / "failed")
    assert ended


def test_training_is_silent_but_for_its_own_lines(command: Any, small_overrides: list[str]) -> None:
    # a setting that is read at start-up: imports may chatter too, so these are not done already
    done = command("train", *small_overrides, "trainer.max_epochs=1", env=os.environ | {"PYTHONHASHSEED": "0"})
    assert done.returncode == 0, done.stderr
    for nag in ("Warning", "warn", "Tip", "TPU", "GPU", "Seed set", "LOCAL_RANK", "max_epochs", "sanity"):
        assert nag not in done.stdout + done.stderr, nag


def test_training_emits_no_python_warning(run: Train) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run("trainer.max_epochs=1")
    assert [str(warning.message) for warning in caught] == []
