"""What a resumed training believes: nothing that it has not compared, and until then it changes no file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import compose, interrupt_at, small_reviews, write_archive
from omegaconf import DictConfig, OmegaConf
from test_resume import OPTIONS, assert_same_run, continue_later, curves, metrics, tree

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, GROWING, LAST
from rnn_imdb.common.interrupts import Interrupted
from rnn_imdb.sweeps.results import read_jobs
from rnn_imdb.training import resume
from rnn_imdb.training.outcome import finished
from rnn_imdb.training.resume import read_config
from rnn_imdb.training.run import train


@pytest.fixture(scope="module")
def short(small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("short") / "run"
    train(compose("train", *small_overrides, *OPTIONS, "trainer.max_epochs=2"), folder)
    return folder


@pytest.fixture
def cut(short: Path, tmp_path: Path) -> Path:
    """The same, killed just before its end."""
    folder = Path(shutil.copytree(short, tmp_path / "cut"))
    (folder / "metrics.json").unlink()
    return folder


def interrupted(batch: int, config: DictConfig, folder: Path, *, resuming: bool = True) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, batch)
        with pytest.raises(Interrupted):
            train(config, folder, resuming=resuming)


def refused(folder: Path, text: str, **changes: Any) -> None:
    """Going on is refused, and no file changed."""
    config = read_config(folder)
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    before = tree(folder)
    with pytest.raises(UserError, match=text) as refusal:
        train(config, folder, resuming=True)
    assert "\n" not in str(refusal.value)
    assert tree(folder) == before


def optimizer(content: dict[str, Any]) -> dict[str, Any]:
    return content["optimizer_states"][0]["state"][0]


def callback(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(state for key, state in content["callbacks"].items() if key.startswith(name))


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no callbacks": (lambda c: c.pop("callbacks"), "callbacks is None, where a dict belongs"),
    "no early stopping": (
        lambda c: c["callbacks"].pop(next(key for key in c["callbacks"] if key.startswith("EarlyStopping"))),
        "callbacks has no EarlyStopping",
    ),
    "patience": (lambda c: callback(c, "EarlyStopping").update(wait_count="1"), "wait_count is '1', where 0 belongs"),
    "score": (lambda c: callback(c, "EarlyStopping").pop("best_score"), "has no best_score"),
    "rows": (lambda c: c["rnn_imdb"].update(rows=3), r"its table has the epochs \[\] in epoch 1"),
    "row": (lambda c: c["rnn_imdb"]["rows"][0].pop("seconds"), r"table\.0 has no seconds"),
    "row twice": (lambda c: c["rnn_imdb"]["rows"].reverse(), r"table has the epochs \[1, 0\] in epoch 1"),
    "rows lost": (lambda c: c["rnn_imdb"]["rows"].clear(), r"its table has the epochs \[\] in epoch 1"),
    "no optimizer": (lambda c: c.pop("optimizer_states"), "optimizer_states is None, where a list of 1 belongs"),
    "empty optimizer": (
        lambda c: c.update(optimizer_states=[]),
        "optimizer_states is a list of 0, where a list of 1 belongs",
    ),
    "optimizer of no weight": (lambda c: c["optimizer_states"][0]["state"].clear(), "state has no 0"),
    "one mean square": (
        lambda c: optimizer(c).update(square_avg=torch.ones(1)),
        r"square_avg is a tensor of torch.float32 and shape \[1\], where a tensor of torch.float32 and shape \[68,",
    ),
    "no mean square": (lambda c: optimizer(c).update(square_avg=None), "square_avg is None, where a tensor"),
    "other mean square": (
        lambda c: optimizer(c).update(square_avg=optimizer(c)["square_avg"].double()),
        "square_avg is a tensor of torch.float64",
    ),
    "infinite mean square": (
        lambda c: optimizer(c)["square_avg"].fill_(torch.inf),
        "square_avg holds numbers that are",
    ),
    "group": (lambda c: c["optimizer_states"][0]["param_groups"][0].pop("lr"), "param_groups.0 has no lr"),
    "schedules": (lambda c: c.update(lr_schedulers=[{}]), "lr_schedulers is a list of 1, where a list of 0 belongs"),
    "nan": (
        lambda c: c["state_dict"]["classifier.cell.A"].fill_(torch.nan),
        "cell.A holds numbers that are not finite",
    ),
    "shape": (lambda c: c["state_dict"].update({"classifier.cell.b": torch.zeros(3)}), r"cell.b is .* shape \[3\]"),
    "half": (
        lambda c: c["state_dict"].update({"classifier.cell.b": torch.zeros(8).half()}),
        "cell.b is a tensor of torch.float16",
    ),
    "no weight": (lambda c: c["state_dict"].pop("classifier.cell.b"), "state_dict has no classifier.cell.b"),
    "one weight more": (lambda c: c["state_dict"].update(mine=torch.zeros(1)), "state_dict has 'mine' too"),
    "no loops": (lambda c: c.pop("loops"), "loops is None, where a dict belongs"),
    "no progress": (lambda c: c["loops"]["fit_loop"].pop("epoch_progress"), "fit_loop has no epoch_progress"),
    "progress as text": (
        lambda c: c["loops"]["fit_loop"]["epoch_progress"]["current"].update(completed="2"),
        "completed is '2', where 0 belongs",
    ),
    "steps": (lambda c: c.update(global_step=7), "global_step is 7 after 8 steps"),
    "epoch as text": (lambda c: c.update(epoch="1"), "epoch or global_step is no count"),
    "later Lightning": (
        lambda c: c.update({"pytorch-lightning_version": "99.1"}),
        "Lightning 99.1 wrote it, and .* is installed",
    ),
    "no Lightning": (lambda c: c.pop("pytorch-lightning_version"), "Invalid version: .None."),
}


@pytest.mark.parametrize("name", WRONG)
def test_state_that_no_training_writes_is_refused_before_anything_changes(cut: Path, name: str) -> None:
    change, text = WRONG[name]
    content = torch.load(cut / LAST, weights_only=True)
    change(content)
    torch.save(content, cut / LAST)
    refused(cut, text)


def test_damaged_checkpoint_is_refused_with_a_way_out(cut: Path) -> None:
    whole = (cut / LAST).read_bytes()
    middle = len(whole) // 2
    (cut / LAST).write_bytes(whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :])
    refused(cut, r"last\.ckpt must be .*is damaged.*to go on, copy best\.ckpt over it, or start a new")
    shutil.copy(cut / BEST, cut / LAST)
    train(read_config(cut), cut, resuming=True)
    assert finished(cut)


def test_configuration_is_that_of_the_checkpoint(cut: Path) -> None:
    for key, value in (("model__state_dim", 9), ("data__split_seed", 1), ("data__vocabulary_size", 30)):
        refused(cut, rf"{key.replace('__', '.')} is {value} there and \d+ in last\.ckpt: put it back", **{key: value})
    refused(cut, r"trainer\.max_epochs is 1 there and 2", trainer__max_epochs=1)
    refused(cut, r"patience is 9 there and 2 in", callbacks__early_stopping__patience=9)


def test_best_checkpoint_is_of_the_same_history(cut: Path, small_overrides: list[str], tmp_path: Path) -> None:
    best = (cut / BEST).read_bytes()
    (cut / BEST).unlink()
    refused(cut, r"best\.ckpt must be the best epoch of the run that last\.ckpt belongs to, but it is not there")
    train(compose("train", *small_overrides, *OPTIONS, "trainer.max_epochs=1"), tmp_path / "other")
    shutil.copy(tmp_path / "other" / BEST, cut / BEST)
    refused(cut, "but it has another history")
    # the run's own, of an epoch that is no longer the best
    (cut / BEST).write_bytes(best)
    older = torch.load(cut / BEST, weights_only=True)
    older["rnn_imdb"]["rows"].pop()
    torch.save(older, cut / BEST)
    refused(cut, "but a better epoch came later")


def test_other_reviews_are_refused(cut: Path, tmp_path: Path) -> None:
    members = small_reviews()
    trained_on = "aclImdb/train/pos/0_9.txt"
    words = write_archive(
        tmp_path / "words.tar.gz", {name: text.replace(b"film", b"movie") for name, text in members.items()}
    )
    refused(
        cut, r"trained on other reviews than are found now \(13 of 64 for training are the same\)", data__root=words
    )
    # as many, with the same words
    one = write_archive(tmp_path / "one.tar.gz", members | {trained_on: members["aclImdb/train/pos/1_9.txt"]})
    refused(cut, r"trained on other reviews than are found now", data__root=one)
    # only those of the test
    tested = {name: members[name] for name in members if "/test/" in name}
    test = write_archive(tmp_path / "test.tar.gz", members | dict(zip(tested, reversed(tested.values()), strict=True)))
    refused(cut, r"\(64 of 64 for training are the same\)", data__root=test)
    config = read_config(cut)
    config.data.root = str(shutil.copy(config.data.root, tmp_path / "moved.tar.gz"))
    train(config, cut, resuming=True)
    assert finished(cut)


@pytest.mark.parametrize(
    "options",
    [
        ["optimizer=adam", "optimizer.schedule=cosine"],
        ["optimizer=sgd", "trainer.precision=64-true"],
        ["optimizer=sgd", "optimizer.momentum=0"],
        ["optimizer.momentum=0.5", "callbacks=averaged", "model.bigrams=9"],
        ["logger=none", "callbacks=insight", "trainer.precision=bf16-mixed"],
    ],
    ids=" ".join,
)
def test_what_any_training_writes_is_gone_on_with(
    small_overrides: list[str], tmp_path: Path, options: list[str]
) -> None:
    config = compose("train", *small_overrides, *options, "trainer.max_epochs=2", "test=false")
    for batch in (1, 6):
        interrupted(batch, config, tmp_path / "run", resuming=batch > 1)
    train(config, tmp_path / "run", resuming=True)
    figures = finished(tmp_path / "run")
    assert figures
    assert figures["epochs"] == 2


def test_finished_run_is_left_alone(short: Path) -> None:
    before = tree(short)
    assert train(read_config(short), short, resuming=True) == finished(short)
    assert tree(short) == before


def test_growth_that_fails_leaves_the_run_as_finished_as_it_was(
    short: Path, small_overrides: list[str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(short, tmp_path / "runs" / "run"))
    kept = {str(path) for path in (BEST, LAST, "config.yaml", "metrics.json", "versions.json")}
    result = {name: content for name, content in tree(folder).items() if name in kept}

    def grown(*overrides: str) -> Any:
        return resume.continued(folder, compose("train", *small_overrides, *overrides), overrides)

    before = tree(folder)
    with pytest.raises(UserError, match="archive that exists"):
        train(grown("trainer.max_epochs=4", f"data.root={tmp_path}/gone.tar.gz"), folder, resuming=True)
    assert tree(folder) == before
    # within the third and the fourth epoch
    for batch in (2, 5):
        interrupted(batch, grown("trainer.max_epochs=4"), folder)
        assert {name: content for name, content in tree(folder).items() if name in kept} == result
        assert [job.status for job in read_jobs(tmp_path / "runs")] == ["finished"]
    with pytest.raises(UserError, match=r"trainer\.max_epochs is 2 in .* and 1 here"):
        grown("trainer.max_epochs=1")
    with pytest.raises(UserError, match="is finished: give a larger"):
        grown("trainer.max_epochs=2")
    assert grown().trainer.max_epochs == 4
    wanted = compose("train", *small_overrides, *OPTIONS, "resume=auto")
    assert resume.find(wanted, tmp_path / "runs") == folder
    continue_later(grown(), folder)
    train(compose("train", *small_overrides, *OPTIONS), tmp_path / "undisturbed")
    assert_same_run(folder, tmp_path / "undisturbed")
    assert not (folder / GROWING).exists()
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 4


def test_less_may_be_asked_for_than_was_begun(short: Path, small_overrides: list[str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(short, tmp_path / "run"))
    config = read_config(folder)
    config.trainer.max_epochs = 6
    interrupted(10, config, folder)
    assert len(curves(folder)["validation/loss"]) == 4
    config.trainer.max_epochs = 3
    continue_later(config, folder)
    train(compose("train", *small_overrides, *OPTIONS, "trainer.max_epochs=3"), tmp_path / "undisturbed")
    assert metrics(folder) == metrics(tmp_path / "undisturbed")
    assert curves(folder) == curves(tmp_path / "undisturbed")
