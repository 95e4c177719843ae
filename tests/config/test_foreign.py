"""Files that somebody else wrote: they run no code, and nothing is written outside their folder."""

import functools
import os
import shutil
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
import yaml
from conftest import compose
from hydra.utils import get_class
from lightning.pytorch import callbacks
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST
from rnn_imdb.config import compose as config
from rnn_imdb.config.foreign import ALLOWED, RENAMED
from rnn_imdb.config.identity import options
from rnn_imdb.config.lightning_options import CALLBACKS
from rnn_imdb.sweeps import command_line, job
from rnn_imdb.training import resume
from rnn_imdb.training.evaluation import evaluate
from rnn_imdb.training.run import train
from rnn_imdb.training.saving import _moved

CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
MONITOR = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor"}
BOARD = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger"}


@functools.cache
def composed(*overrides: str) -> DictConfig:
    return compose("train", *overrides)


def write_saved(folder: Path, changes: dict[str, Any], *overrides: str) -> None:
    """The ``config.yaml`` of a run, changed as ``changes`` says, which has dotted keys."""
    saved = OmegaConf.create(OmegaConf.to_container(composed(*overrides), resolve=True))
    for key, value in changes.items():
        OmegaConf.update(saved, key, value, force_add=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(saved, resolve=False)))


@pytest.mark.parametrize("name", ["default", "insight", "averaged"])
@pytest.mark.parametrize("logger", ["tensorboard", "csv", "none"])
def test_run_with_the_projects_own_callbacks_and_loggers_is_continued(tmp_path: Path, name: str, logger: str) -> None:
    write_saved(tmp_path, {}, f"callbacks={name}", f"logger={logger}")
    continued = resume.continued(tmp_path, composed(), [])
    assert continued == composed(f"callbacks={name}", f"logger={logger}")


def test_run_that_names_its_callbacks_otherwise_is_continued(tmp_path: Path) -> None:
    old = {name.rpartition(".")[2]: name for name in RENAMED}
    write_saved(tmp_path, {}, "callbacks=insight")
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for entry in saved["callbacks"].values():
        entry["_target_"] = old.get(entry["_target_"].rpartition(".")[2], entry["_target_"])
    assert options(saved) == options(composed("callbacks=insight"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved))
    assert resume.continued(tmp_path, composed(), []) == composed("callbacks=insight")


def test_what_a_file_may_name_is_a_callback_or_a_logger() -> None:
    for group, kind in (("callbacks", L.Callback), ("logger", Logger)):
        classes = [get_class(name) for name in ALLOWED[group]]
        assert all(issubclass(made, kind) for made in classes)
        # nor one that no run can have
        assert not any(issubclass(made, getattr(callbacks, name)) for made in classes for name in CALLBACKS)
        named = {
            entry["_target_"]
            for file in (config.conf_folder() / group).iterdir()
            for entry in yaml.safe_load(file.read_text()).values()
            if "_target_" in entry
        }
        assert named
        assert named <= set(ALLOWED[group])


@pytest.mark.parametrize(
    "changes",
    [
        {"callbacks.x": {"_target_": "pathlib.Path.touch", "self": "owned"}},
        {"callbacks.early_stopping._target_": "numpy.load"},
        {"callbacks.x": {"_target_": "lightning.pytorch.callbacks.OnExceptionCheckpoint", "dirpath": "owned"}},
        {"callbacks.x": {"_target_": "lightning.pytorch.callbacks.SpikeDetection"}},
        {
            "callbacks.x": {
                "_target_": "rnn_imdb.training.checkpoint.CheckpointContent",
                "content": {},
                "first": "owned",
            }
        },
        {"callbacks.x": {"_target_": "lightning.pytorch.utilities.rank_zero.rank_zero_only"}},
        {"callbacks.x": {"_target_": ["numpy.load"]}},
        {"callbacks.x": MONITOR | {"logging_interval": {"_target_": "os.system", "command": "touch owned"}}},
        {"callbacks.x": MONITOR | {"logging_interval": [{"_target_": "os.getcwd"}]}},
        {"callbacks.x": MONITOR | {"logging_interval": MONITOR}},
        {"callbacks.x": MONITOR | {"_args_": ["owned"]}},
        {"callbacks.x": MONITOR | {"_partial_": True}},
        {"callbacks.x": MONITOR | {"_convert_": "object"}},
        {"callbacks.x.deeper": MONITOR},
        {"logger.x": {"_target_": "lightning.pytorch.loggers.WandbLogger"}},
        {"logger.tensorboard._target_": "rnn_imdb.insight.callbacks.Quality"},
        {"trainer.profiler": {"_target_": "os.getcwd"}},
        {"callbacks.x": {"_target_": CHECKPOINT, "dirpath": "models"}},
        {"callbacks.x": {"_target_": CHECKPOINT, "filename": "../../best"}},
        {"callbacks.x": {"_target_": CHECKPOINT, "filename": "/tmp/best"}},
        {"callbacks.x": {"_target_": CHECKPOINT, "filename": "{epoch:c}{epoch:c}/best"}},
        {"callbacks.x": {"_target_": CHECKPOINT, "filename": ".{step:<1c}/best"}},
        {"callbacks.x": {"_target_": CHECKPOINT, "dirpath": "s3://bucket"}},
        {"logger.tensorboard.version": "../.."},
        {"logger.tensorboard.name": "a/../../b"},
        {"logger.tensorboard.sub_dir": "~/x"},
        {"logger.tensorboard.sub_dir": "$HOME"},
        {"logger.x": BOARD | {"filename_suffix": "/../../x"}},
        {"logger.x": BOARD | {"save_dir": "there"}},
    ],
    ids=str,
)
def test_saved_configuration_neither_makes_nor_writes_what_it_should_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_saved(tmp_path, changes)
    with pytest.raises(UserError, match=r"give it on the command line if you"):
        resume.continued(tmp_path, composed(), [])
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    # the same on the command line is the user's own
    own = deepcopy(composed())
    OmegaConf.set_struct(own, False)
    for key, value in changes.items():
        OmegaConf.update(own, key, value, force_add=True)
    saved = resume.continued(tmp_path, own, list(changes))
    assert all(OmegaConf.select(saved, key) == OmegaConf.select(own, key) for key in changes)


@pytest.mark.parametrize("key", ["data.root", "callbacks.x.patience", "sweep.name", "trainer.profiler"])
def test_interpolation_in_a_saved_configuration_is_not_resolved(tmp_path: Path, key: str) -> None:
    write_saved(tmp_path, {key: "${oc.env:HOME}"})
    with pytest.raises(UserError, match=rf"{key} is '\${{oc\.env:HOME}}'"):
        resume.read_config(tmp_path)


def test_no_file_says_where_reviews_are_downloaded_to(tmp_path: Path) -> None:
    write_saved(tmp_path, {"data.root": str(tmp_path / "theirs")}, "data=aclimdb")
    with pytest.raises(UserError, match=r"has data\.root='.*theirs', which is not there: give data\.root=PATH"):
        resume.continued(tmp_path, composed(), [])
    for root in (tmp_path / "mine", tmp_path / "theirs"):
        given = ["data=aclimdb", f"data.root={root}"]
        assert resume.continued(tmp_path, composed(*given), given).data.root == str(root)
    (tmp_path / "theirs").mkdir()
    assert resume.continued(tmp_path, composed(), []).data.root == str(tmp_path / "theirs")


def test_cache_is_where_the_command_line_says(tmp_path: Path) -> None:
    write_saved(tmp_path, {"data.cache_dir": "/elsewhere", "data.root": str(tmp_path)}, "data=aclimdb")
    data = resume.continued(tmp_path, composed(), []).data
    assert (data.cache_dir, data.root) == (None, str(tmp_path))
    given = ["data=aclimdb", "data.cache_dir=here"]
    assert resume.continued(tmp_path, composed(*given), given).data.cache_dir == "here"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hydra.sweep.dir", "/tmp/x"),
        ("hydra/launcher", "joblib"),
        ("+hydra.callbacks.x._target_", "os.getcwd"),
        ("callbacks.x._target_", "os.getcwd,os.getpid"),
        ("+callbacks.x", "{_target_: os.getcwd}"),
        ("++trainer.x", [{"_target_": "os.getcwd"}]),
        ("callbacks.early_stopping", {"_target_": "os.getcwd"}),
        ("callbacks.best_checkpoint.filename", "best,../../best"),
        ("logger.tensorboard.version", "'/tmp/x'"),
        ("data", "embedded,../../evil"),
        ("data.cache_dir", "cache"),
        ("data.root", "reviews"),
        ("resume", "auto"),
        ("sweep.name", "x"),
        ("~callbacks", ""),
        ("callbacks@x", "default"),
        ("seed", "${oc.env:SEED}"),
        ("logger.tensorboard.name", "~/x"),
        ("seed=0 hydra.run.dir", "x"),
    ],
    ids=str,
)
def test_sweep_file_holds_options_of_the_project_alone(tmp_path: Path, key: Any, value: Any) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "axes": {"seed": "0,1", key: value}}))
    with pytest.raises(UserError, match=r"(axes are options of|values are names and numbers).* give that on the"):
        command_line.prepare([f"sweep={file}"])


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "-m", "~", "a,b", "${now:%Y}", "a\nb", "\x1b[2J", 3, None, ["a"]]
)
def test_sweep_has_a_folders_name(tmp_path: Path, name: Any) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"name": name, "axes": {"seed": "0,1"}}))
    with pytest.raises(UserError, match="name must be a folder's, of letters"):
        command_line.prepare([f"sweep={file}"])


@pytest.mark.parametrize("name", ["..", "", "a/b", "-m", "~x", "a\tb"])
def test_name_of_a_sweep_on_the_command_line_is_a_folders(name: str) -> None:
    with pytest.raises(UserError, match=r"sweep\.name must be null, or a folder's name, without slashes"):
        compose("train", f'sweep.name="{name}"')


def test_axes_of_the_studies_are_a_sweep_files(tmp_path: Path) -> None:
    axes = {"experiment": "best", "model.spectral_radius": "0.9,1.0", "test": "false", "+trainer.x": "[1,2],[3]"}
    axes |= {"callbacks.forgetting.reviews": 250, "callbacks.early_stopping.monitor": "validation/loss,train/loss"}
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "axes": axes}))
    assert {f"{key}={value}" for key, value in axes.items()} < set(command_line.prepare([f"sweep={file}"]))


@pytest.fixture(scope="module")
def finished(small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(compose("train", *small_overrides, "test=false", "trainer.max_epochs=1"), folder)
    return folder


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", [".lock", "metrics.json", "config.yaml", "versions.json", "checkpoints", "word_map", "pipe"]
)
def test_training_goes_on_in_no_folder_that_holds_links(
    finished: Path, small_overrides: list[str], tmp_path: Path, name: str
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    path, outside = run / name, tmp_path / "outside"
    outside.mkdir()
    target = outside / name
    if path.exists():
        path.rename(target)
    elif name == "pipe":
        os.mkfifo(target)
    if name == "pipe":
        target.rename(path)
    else:
        path.symlink_to(target)
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=f"of its own, but .*{name} is a link or no file: remove it"):
        train(compose("train", *small_overrides, "test=false", "trainer.max_epochs=2"), run, resuming=True)
    assert snapshot(tmp_path) == before


@pytest.mark.usefixtures("places")
def test_evaluation_replaces_a_link_and_takes_no_place_from_the_checkpoint(
    finished: Path, small_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "mine").write_text("mine")
    (run / "evaluation_aclimdb_test.json").symlink_to(tmp_path / "mine")
    content = torch.load(run / BEST, weights_only=True)
    content["rnn_imdb"]["config"]["data"] |= {"root": str(tmp_path / "theirs"), "cache_dir": str(tmp_path / "cache")}
    torch.save(content, run / BEST)
    before = evaluate(finished)
    assert evaluate(run, output=run) == before
    assert not (run / "evaluation_aclimdb_test.json").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run"]
    assert (tmp_path / "mine").read_text() == "mine"
    assert "theirs" not in (run / "evaluation_aclimdb_test.json").read_text()
    monkeypatch.delenv("IMDB_ROOT")
    with pytest.raises(UserError, match=r"data\.root must be given .* add data\.root=PATH .*, which was '.*theirs'"):
        evaluate(run)
    assert evaluate(run, data={"root": str(small_archive)}) == before


def test_files_of_a_moved_run_are_in_its_folder() -> None:
    state = {
        "dirpath": "/a/checkpoints",
        "best_model_path": "/a/checkpoints/best.ckpt",
        "kth_best_model_path": "/a/checkpoints/below/best.ckpt",
        "last_model_path": "",
        "best_k_models": {"/a/checkpoints/best.ckpt": 0.5},
    }
    assert _moved(state, "/b") == {
        "dirpath": "/b",
        "best_model_path": "/b/best.ckpt",
        "kth_best_model_path": "/b/below/best.ckpt",
        "last_model_path": "",
        "best_k_models": {"/b/best.ckpt": 0.5},
    }
    for path in ("/a/checkpoints/../../c/precious", "/c/precious", "/a/checkpoints", 3, ["x"], "precious"):
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            with pytest.raises(UserError, match="must know its run's checkpoints, all in one folder"):
                _moved(state | {name: path}, "/b")
    for wrong in ({"best_k_models": {"/a/checkpoints/../x": 0.5}}, {"best_k_models": None}, {"dirpath": None}):
        with pytest.raises(UserError, match="must know its run's checkpoints"):
            _moved(state | wrong, "/b")
    for name in state:
        with pytest.raises(UserError, match="must know its run's checkpoints"):
            _moved({key: value for key, value in state.items() if key != name}, "/b")


def test_job_of_a_sweep_follows_no_link(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hydra = SimpleNamespace(job=SimpleNamespace(num=0), launcher=OmegaConf.create({}))
    monkeypatch.setattr(job.HydraConfig, "get", lambda: hydra)
    options = compose("train", *small_overrides, "test=false", "trainer.max_epochs=1")
    for name in ("error.txt", "output.txt", "config.yaml"):
        (tmp_path / "mine").write_text("mine")
        (tmp_path / name).mkdir()
        (tmp_path / name / name).symlink_to(tmp_path / "mine")
        job.run_job(options, tmp_path / name)
        assert "is a link or no file" in capsys.readouterr().out
        assert "is a link or no file" in (tmp_path / name / "error.txt").read_text()
        assert (tmp_path / "mine").read_text() == "mine"
    (tmp_path / "job").symlink_to(tmp_path / "output.txt")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"must have a folder of its own, but .*job is a link"):
        job.run_job(options, tmp_path / "job")
    assert snapshot(tmp_path) == before
