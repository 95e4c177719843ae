"""What makes two runs the same, for all that asks: resume, the folders of a sweep, and the report."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import compose, forget_later_options, small_reviews, write_archive
from omegaconf import OmegaConf
from test_report import write_config, write_run

from rnn_imdb.config.checks import check
from rnn_imdb.config.compose import restore
from rnn_imdb.config.identity import claimed, digest, options, reviews, run_folder
from rnn_imdb.sweeps.results import rank_configurations, read_jobs, varied
from rnn_imdb.training.outcome import finished


def digest_of(*overrides: str) -> str:
    return digest(compose("train", *overrides), "reviews")


CHANGES = [
    *("seed=1", "model.readout=all", "optimizer=adam", "data=aclimdb", "test=false", "trainer.max_epochs=4"),
    *("callbacks.early_stopping.patience=1", "+trainer.deterministic=true", "~callbacks.early_stopping"),
    "callbacks=averaged",
]
SAME = [
    *("data.cache_dir=elsewhere", "trainer.enable_progress_bar=false", "logger=none"),
    *("logger.tensorboard=null", "sweep.name=other", "resume=auto", "trainer.log_every_n_steps=1", "callbacks=insight"),
    *("+callbacks.x._target_=rnn_imdb.insight.callbacks.Quality", "~callbacks.forgetting", "callbacks.states=null"),
    *("+callbacks.mine=null", "+callbacks.rate._target_=lightning.pytorch.callbacks.LearningRateMonitor"),
    "callbacks.early_stopping._target_=lightning.pytorch.callbacks.early_stopping.EarlyStopping",
]


def test_a_run_is_all_that_affects_results_and_nothing_else() -> None:
    base = digest_of()
    assert len({base, *map(digest_of, CHANGES)}) == len(CHANGES) + 1
    assert {same: digest_of(same) for same in SAME} == dict.fromkeys(SAME, base)
    assert digest_of("data=aclimdb", "data.root=elsewhere") == digest_of("data=aclimdb")
    assert digest(compose("train"), "other reviews") != base != digest(compose("train"), None)


def test_a_run_of_an_earlier_version_stays_the_same() -> None:
    earlier: Any = OmegaConf.to_container(compose("train"))
    forget_later_options(earlier)
    assert options(earlier) == options(compose("train"))
    assert digest(earlier, "reviews") == digest_of()
    # later options leave the digests of before as they are
    assert digest({"model": {"bias": True}}, None) == digest({"model": {"bias": True, "encoder": "rnn"}}, None)
    later = ["data.first_words=5", "data.last_words=5", "model.encoder=dense", "model.activation=identity"]
    later += ["model.init=torch", "model.spectral_radius=1", "model.bidirectional=true"]
    later += ["model.recurrent=false", "model.bigrams=9", "model.word_dropout=0.1", "model.embedding_dropout=0.1"]
    later += ["model.head_dropout=0.1", "optimizer.schedule=linear", "optimizer.label_smoothing=0.1"]
    later += ["optimizer.target_replication=0.1"]
    assert len({digest_of(), *map(digest_of, later)}) == len(later) + 1
    assert digest_of("model.encoder=conv") != digest_of("model.encoder=conv", "model.kernel_size=3")


def test_configuration_of_a_sweep_is_restored() -> None:
    swept: Any = OmegaConf.to_container(compose("train", "sweep=capacity"))
    restored = restore(swept)
    check(restored)
    assert OmegaConf.to_container(restored) == swept
    assert options(restored) == options(compose("train"))


def test_reviews_are_told_by_what_they_are_and_not_by_where_they_lie(
    small_archive: Path, small_overrides: list[str], tmp_path: Path
) -> None:
    moved = Path(shutil.copy(small_archive, tmp_path / "moved.tar.gz"))
    config = compose("train", *small_overrides, f"data.root={moved}")
    assert reviews(config) == reviews(compose("train", *small_overrides))
    before = reviews(config)
    write_archive(moved, {name: text.replace(b"film", b"movie") for name, text in small_reviews().items()})
    assert reviews(config) != before


def record(folder: Path, found: str) -> None:
    (folder / "versions.json").write_text(f'{{"reviews": "{found}"}}')


def test_report_groups_by_the_same_definition(tmp_path: Path) -> None:
    shown = {"trainer__enable_progress_bar": False, "data__root": "/elsewhere", "logger": {"csv": {"version": "csv"}}}
    observer = {"_target_": "rnn_imdb.insight.callbacks.StateHealth", "reviews": 5}
    write_run(tmp_path / "a", 0.8)
    write_run(tmp_path / "b", 0.8, seed=1, callbacks__states=observer, **shown)
    write_run(tmp_path / "c", 0.8, 0.8, seed=2, model__encoder="rnn", optimizer__schedule="constant")
    write_run(tmp_path / "d", 0.8, seed=3, optimizer__schedule="linear")
    jobs = read_jobs(tmp_path)
    assert [[job.name for job in each.jobs] for each in rank_configurations(jobs)] == [["a", "b", "c"], ["d"]]
    assert varied(jobs) == ["optimizer.schedule", "seed"]


def test_report_tells_reviews_apart_and_counts_a_job_once(tmp_path: Path) -> None:
    # of an earlier version, trained again where it left no record of its reviews; and on other reviews
    for name, found in (("earlier", None), ("again", "a" * 16), ("other", "b" * 16), ("seed", None)):
        write_run(tmp_path / name, 0.8, seed=int(name == "seed"), data__root=f"/{name}")
        if found:
            record(tmp_path / name, found)
    jobs = read_jobs(tmp_path)
    assert [job.name for job in jobs] == ["again", "other", "seed"]
    assert varied(jobs) == ["data.reviews", "seed"]
    assert len(rank_configurations(jobs)) == 3
    # an end that is there does not give way to one that is not
    for name in ("again", "other"):
        (tmp_path / name / "metrics.json").unlink()
    assert [job.name for job in read_jobs(tmp_path)] == ["again", "earlier", "other", "seed"]


@pytest.mark.parametrize("content", ["{}", "{", "[1]", '{"seconds": "1"}', '{"seconds": 1e999}', "9" * 5000])
def test_damaged_figures_finish_no_run(content: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 0.8)
    assert finished(run) is not None
    (run / "metrics.json").write_text(content)
    assert finished(run) is None
    assert finished(write_config(tmp_path / "other")) is None


def test_folder_of_a_run_is_named_after_its_time_and_what_was_changed() -> None:
    changed = [
        "model.readout=all",
        "~callbacks.states",
        "data.root=/a/b",
        "resume=auto",
        "+trainer.limit=[1,2]",
        "seed=1",
    ]
    name = Path(run_folder(changed)).name
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_readout-all_states-off_limit-1-2_seed-1", name)
    assert len(run_folder(["model.readout=all"] * 2).rpartition("_")[0]) == len("experiments/runs/2026-11-25_14-03-07")
    both = Path(run_folder(["model.name=a", "optimizer.name=b/c", "optimizer=adam"])).name
    assert both.endswith("_model.name-a_optimizer.name-b-c_optimizer-adam")
    assert len(Path(run_folder([f"data.x{number}={number}" for number in range(99)])).name) == 80


def test_runs_of_one_second_have_a_folder_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(claimed, [tmp_path / "run"] * 4))
    assert sorted(folder.name for folder in found) == ["run", "run_2", "run_3", "run_4"]
