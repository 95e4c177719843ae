"""Every configuration file composes; every value that cannot be used is refused with the rule."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_imdb.common.errors import UserError
from rnn_imdb.config import names as choices
from rnn_imdb.config import schema
from rnn_imdb.config.compose import conf_folder, conf_root
from rnn_imdb.config.explain import SYNONYMS, explain
from rnn_imdb.config.help import help_text
from rnn_imdb.train import in_short

CONF = conf_folder()
TRAIN_GROUPS = [path for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in ("base", "evaluate")]
EVALUATE_GROUPS = sorted((CONF / "evaluate" / "data").glob("*.yaml"))
HYDRA = sorted((CONF / "hydra").rglob("*.yaml"))
Command = Callable[..., "subprocess.CompletedProcess[str]"]
Called = Callable[..., tuple[Any, str, str]]


def composed(name: str, *overrides: str) -> DictConfig:
    """What the command ``name`` would work with; its errors as the command explains them."""
    try:
        return compose(name, *overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, name)) from error


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Called:
    """Call the main of a command, which ends, in an empty folder: its exit status and what it prints."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as end:
            import_module(f"rnn_imdb.{name}").main()
        return end.value.code, *capfd.readouterr()

    return call


def group_and_option(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def test_the_main_files_compose() -> None:
    assert composed("train").data.source == "embedded"
    assert composed("evaluate", "checkpoint=run").data.source is None
    assert composed("benchmark").batch_sizes == [1, 32, 256]


@pytest.mark.parametrize("path", TRAIN_GROUPS, ids=group_and_option)
def test_every_option_of_train_composes(path: Path) -> None:
    # a class of one's own has no default
    own = ["optimizer.name=torch.optim.NAdam"] if path.stem == "own" else []
    result = composed("train", group_and_option(path), *own)
    content = yaml.safe_load(path.read_text())
    own = {key: value for key, value in content.items() if key != "defaults" and value != "???"}
    chosen = result if path.parent.name == "experiment" else result[path.parent.name]
    plain = OmegaConf.to_container(chosen)
    assert isinstance(plain, dict)
    for key, value in own.items():
        assert plain[key] == value if not isinstance(value, dict) else value.items() <= plain[key].items()


@pytest.mark.parametrize("path", EVALUATE_GROUPS, ids=group_and_option)
def test_every_option_of_evaluate_composes(path: Path) -> None:
    own = yaml.safe_load(path.read_text())
    assert composed("evaluate", "checkpoint=run", group_and_option(path)).data.source == own["source"]


@pytest.mark.parametrize("path", HYDRA, ids=lambda path: path.stem)
def test_every_launcher_and_sweeper_composes(path: Path) -> None:
    assert composed("train", f"hydra/{path.parent.name}={path.stem}").sweep.name is None


def test_every_file_is_composed_by_a_test() -> None:
    main = {CONF / "train.yaml", CONF / "benchmark.yaml", CONF / "evaluate" / "evaluate.yaml"}
    tested = {*TRAIN_GROUPS, *EVALUATE_GROUPS, *HYDRA, *main}
    # part of both files of the group data
    assert set(CONF.rglob("*.yaml")) - tested == {CONF / "base" / "data.yaml"}


@pytest.mark.parametrize(("experiment", "readout"), [("lecture_last", "last"), ("lecture_all", "all")])
def test_experiments_are_the_lecture_s_models(experiment: str, readout: str) -> None:
    result = composed("train", f"experiment={experiment}")
    lecture = {"readout": readout, "state_dim": 32, "embedding_dim": 32, "bias": True, "mask_padding": False}
    assert lecture.items() <= dict(result.model).items()
    assert (result.data.source, result.optimizer.name) == ("aclimdb", "rmsprop")
    assert (result.data.vocabulary_size, result.data.sequence_length) == (10_000, 500)
    assert composed("train", f"experiment={experiment}", "model.readout=mean").model.readout == "mean"


GOOD = {
    "data.vocabulary_size": (3, 65_536),
    "data.sequence_length": (1,),
    "data.truncation": ("both",),
    "data.split_by": ("neighbours",),
    "data.first_words": (1,),
    "data.last_words": (20_000, None),
    "model.state_dim": (1, 4096),
    "model.readout": choices.READOUTS,
    "model.scan": ("auto", *choices.SCANS),
    "model.encoder": choices.ENCODERS,
    "model.activation": choices.ACTIVATIONS,
    "model.init": choices.INITIALIZERS,
    "model.spectral_radius": (0.9, None),
    "model.bigrams": (1_000_000,),
    "model.word_dropout": (0,),
    "model.head_dropout": (0.99,),
    "model.bidirectional": (True,),
    "model.recurrent": (False,),
    "optimizer.learning_rate": (1e-30, 1),
    "optimizer.schedule": ("constant", *choices.SCHEDULES),
    "optimizer.label_smoothing": (0.5,),
    "optimizer.target_replication": (1,),
    "trainer.devices": ("auto", 2, -1, [1], [0, 1], "'0,1'"),
    "trainer.limit_train_batches": (1,),
    "trainer.limit_val_batches": (1.0,),
    "trainer.limit_test_batches": (0.01,),
    "trainer.gradient_clip_val": (0.5, None),
    "trainer.fast_dev_run": (True, 3),
    "+trainer.profiler": ("simple",),
    "+trainer.deterministic": (True,),
    "seed": (0, 4_294_967_295),
    "test": (False,),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in GOOD.items() for value in values])
def test_what_can_be_used_is_accepted(key: str, value: Any) -> None:
    written = "null" if value is None else value
    expected = value.strip("'") if isinstance(value, str) else value
    assert OmegaConf.select(composed("train", f"{key}={written}"), key.lstrip("+")) == expected


def test_an_option_may_be_that_of_another() -> None:
    assert composed("train", "model.embedding_dim=${model.state_dim}").model.embedding_dim == 32


def test_callbacks_can_be_removed_and_changed() -> None:
    result = composed("train", "~callbacks.early_stopping", "callbacks.best_checkpoint.monitor=validation/accuracy")
    assert set(composed("train").callbacks) - set(result.callbacks) == {"early_stopping"}
    assert result.callbacks.best_checkpoint.monitor == "validation/accuracy"


SHARE = "a number from 0 to below 1"
FRACTION = "a number from 0.0 to 1.0"
LIMIT = "a number of batches from 1, or a share above 0.0, at most 1.0"
STATES = "a whole number from 1 to 4,096"
WORDS = "null, or a whole number from 1 to 20,000"
SEEDS = "a whole number from 0 to 4,294,967,295"
DEVICES = "auto, -1, a number of devices from 1, or a list of their numbers, as [0] or '0,1'"
# each option's rule, and values that break it, as the error repeats them
RULES = {
    "data.source": ("one of embedded, aclimdb, csv", ["imdb"]),
    "data.reviews_per_class": ("a whole number from 10 to 1,000,000", [9]),
    "data.vocabulary_size": ("a whole number from 3 to 65,536", [2, 70_000]),
    "data.sequence_length": ("a whole number from 1 to 20,000", [0]),
    "data.padding": ("one of pre, post", ["left"]),
    "data.truncation": ("one of pre, post, both", ["left"]),
    "data.first_words": (WORDS, [0]),
    "data.last_words": (WORDS, [-1]),
    "data.split_seed": (SEEDS, [-1]),
    "data.split_by": ("one of review, neighbours", ["word"]),
    "data.batch_size": ("a whole number from 1 to 25,000", [0]),
    "data.evaluation_batch_size": ("a whole number from 1 to 25,000", [-3]),
    "model.state_dim": (STATES, ["many", 1.5, True, 0, -1, 5000, "nan"]),
    "model.embedding_dim": (STATES, [0]),
    "model.readout": ("one of last, all, mean, max, mean_max, attention", ["first", ""]),
    "model.scan": (f"one of auto, {', '.join(choices.SCANS)}", ["cuda"]),
    "model.encoder": ("one of rnn, dense, conv", ["lstm"]),
    "model.activation": ("one of tanh, identity", ["relu"]),
    "model.init": ("one of keras, torch", ["zeros"]),
    "model.spectral_radius": ("null, or a number above 0, at most 1,000", [0.0, "nan"]),
    "model.kernel_size": ("a whole number from 1 to 100", [0]),
    "model.bigrams": ("a whole number from 0 to 1,000,000", [-1]),
    "model.word_dropout": (SHARE, [1.0]),
    "model.embedding_dropout": (SHARE, [-0.1]),
    "model.head_dropout": (SHARE, ["nan"]),
    "optimizer.name": ("one of rmsprop, adam, adamw, sgd", ["lion"]),
    "optimizer.learning_rate": ("a number above 0, at most 100.0", ["fast", 0.0, -1.0, "nan", "inf", 101.0]),
    "optimizer.weight_decay": ("a number from 0.0 to 100.0", [-0.1]),
    "optimizer.label_smoothing": ("a number from 0.0 to 0.5", [0.6]),
    "optimizer.target_replication": (FRACTION, [1.1]),
    "optimizer.schedule": ("one of constant, linear, cosine, one_cycle", ["step"]),
    "optimizer.alpha": (FRACTION, [1.1]),
    "optimizer.eps": ("a number above 0, at most 1.0", [0.0]),
    "optimizer.momentum": (FRACTION, ["nan"]),
    "trainer.devices": (DEVICES, [0, True, "all", [0, 0], [-1], [], "0;1"]),
    "trainer.strategy": ("one of auto, ddp, ", ["ddp_spawn"]),
    "trainer.precision": ("one of 32-true, ", ["8"]),
    "trainer.max_epochs": ("a whole number from 1 to 100,000", [0, -1]),
    "trainer.gradient_clip_val": ("null, or a number above 0", [0.0, "nan", "inf"]),
    "trainer.accumulate_grad_batches": ("a whole number from 1 to 25,000", [0]),
    "trainer.limit_train_batches": (LIMIT, [0]),
    "trainer.limit_val_batches": (LIMIT, [1.5]),
    "trainer.limit_test_batches": (LIMIT, ["nan"]),
    "trainer.fast_dev_run": ("true, false, or a number of batches from 1", [0, 0.5]),
    "trainer.log_every_n_steps": ("a whole number from 1 to 1,000,000", [0]),
    "seed": (SEEDS, [-1, 4_294_967_296]),
}


@pytest.mark.parametrize(
    ("key", "rule", "value"), [(key, rule, value) for key, (rule, values) in RULES.items() for value in values]
)
def test_what_cannot_be_used_is_refused_with_its_rule(key: str, rule: str, value: Any) -> None:
    # what a quote would be for Hydra's grammar
    written = value if value != "0;1" else f"'{value}'"
    with pytest.raises(UserError) as refused:
        composed("train", f"{key}={written}")
    message = str(refused.value)
    assert message.startswith(f"{key} must be {rule}")
    assert re.search(rf"(, got |: Value )'?{re.escape(str(value))}'?", message)


BAD = {
    # typos
    "model.state_dims=3": r"no option model\.state_dims: model has state_dim, .*; did you mean model\.state_dim\?",
    "data.vocab_size=3": r"no option data\.vocab_size: .*did you mean data\.vocabulary_size\?",
    "optimizer.lr=1": r"no option optimizer\.lr: optimizer has name, learning_rate",
    "optimizer.betas=[0.9,0.9]": r"no option optimizer\.betas: optimizer has name, [\w, ]+alpha, eps, momentum$",
    "trainer.max_steps=3": r"trainer\.max_steps cannot be given: a run consists of whole epochs.*max_epochs",
    "trainer.profiler=simple": r"takes a plus sign: \+trainer\.profiler=VALUE",
    "+trainer.nosuch=1": r"no option trainer\.nosuch: trainer has accelerator",
    "trainer.max_epoch=3": r"no option trainer\.max_epoch: .*did you mean trainer\.max_epochs\?",
    "sed=3": r"no option sed: there are data, .*seed, test, resume; did you mean seed\?",
    "readout=all": r"no option readout: there are data, model",
    "+model.layers=2": r"no option model\.layers: model has state_dim",
    "++model.state_dims=2": r"did you mean model\.state_dim\?",
    "+layers=2": r"no option layers: there are data, model",
    # types
    "model.state_dim=null": r"model\.state_dim must be a whole number from 1 to 4,096.*not Optional",
    "model.state_dim=[1]": r"model\.state_dim must be a whole number from 1 to 4,096",
    "trainer.limit_test_batches=null": r"limit_test_batches must be a number of batches from 1, .*got None",
    "model.bias=maybe": r"model\.bias: Value 'maybe' is not a valid bool",
    "data.root=[1]": r"data\.root: Cannot convert 'list' to string",
    "data.root=mine.csv": r"data=embedded reads .*got data\.root=mine\.csv: leave it out, or give data=aclimdb",
    "data.reviews_per_class=40": r"data=embedded reads .*got data\.reviews_per_class=40",
    "data.root=${nothing}": r"data\.root: Interpolation key 'nothing' not found",
    # Hydra's grammar
    "model.readout": r"Error parsing override 'model\.readout'\nmissing EQUAL",
    "model.state_dim=1,2": r"Ambiguous value for argument 'model\.state_dim=1,2'.*--multirun",
}


@pytest.mark.parametrize("override", BAD)
def test_what_is_no_option_or_no_value_is_refused(override: str) -> None:
    with pytest.raises(UserError, match=rf"(?s){BAD[override]}"):
        composed("train", override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=adam", "optimizer.alpha=0.9"], r"no option optimizer\.alpha: optimizer has .*betas, eps"),
        (["optimizer=adam", "optimizer.betas=[0.9]"], r"betas must be two numbers from 0 to below 1, got \[0\.9\]"),
        (["optimizer=adamw", "optimizer.betas=[0.9,1]"], r"betas must be two numbers from 0 to below 1"),
        (["optimizer=adamw", "optimizer.betas=[nan,0]"], r"betas must be two numbers from 0 to below 1"),
        (["optimizer=adam", "optimizer.betas=[a,b]"], r"betas\[0\].*'a' of type 'str' could not be converted"),
        (["optimizer=adam", "optimizer.fused=fast"], r"optimizer\.fused: Value 'fast' is not a valid bool"),
        (["optimizer=sgd", "optimizer.momentum=2"], r"momentum must be a number from 0\.0 to 1\.0, got 2\.0"),
    ],
)
def test_each_optimizer_has_rules_of_its_own(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        composed("train", *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"checkpoint must be given: add checkpoint=VALUE"),
        (["checkpoint=run", "split=every"], r"split must be one of train, validation, test, all, got 'every'"),
        (["checkpoint=run", "data.source=imdb"], r"data\.source must be one of embedded, aclimdb, csv, .*got 'imdb'"),
        (
            ["checkpoint=run", "data.sequence_length=0"],
            r"sequence_length must be a whole number from 1 .*, got 0",
        ),
        (["checkpoint=run", "data.vocabulary_size=9"], r"no option data\.vocabulary_size: data has source, root"),
        (["checkpoint=run", "model.readout=all"], r"no option model: there are data, checkpoint, split"),
        (["checkpoint=run", "data=imdb"], r"(?s)Could not find 'data/imdb'.*aclimdb.*as_trained.*embedded"),
    ],
)
def test_evaluation_has_rules_of_its_own(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        composed("evaluate", *overrides)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_first_and_last_words_exclude_each_other(name: str) -> None:
    overrides = ["data.first_words=3", "data.last_words=4", *(["checkpoint=run"] if name == "evaluate" else [])]
    with pytest.raises(UserError, match=r"data\.first_words must be null beside .* got 3 and 4: give one"):
        composed(name, *overrides)


@pytest.mark.parametrize("group", sorted({path.parent.name for path in TRAIN_GROUPS}))
def test_an_unknown_option_of_a_group_lists_the_valid_ones(group: str) -> None:
    valid = "\n\t".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))
    with pytest.raises(
        UserError, match=rf"Could not find '{group}/nothing'\nAvailable options in '{group}':\n\t{valid}$"
    ):
        composed("train", f"{group}=nothing")


@pytest.mark.parametrize(
    ("name", "key", "meant"),
    [
        ("train", "readout", "model.readout"),
        ("train", "batch_size", "data.batch_size"),
        ("train", "max_epochs", "trainer.max_epochs"),
        ("train", "learning_rate", "optimizer.learning_rate"),
        ("train", "betas", "optimizer.betas"),
        ("train", "data.readout", "model.readout"),
        ("train", "optimizer.max_epochs", "trainer.max_epochs"),
        ("train", "+model.seed", "seed"),
        ("train", "+model.batch_size", "data.batch_size"),
        ("train", "lr", "optimizer.learning_rate"),
        ("train", "optimizer.lr", "optimizer.learning_rate"),
        ("train", "epochs", "trainer.max_epochs"),
        ("train", "model.hidden_size", "model.state_dim"),
        ("train", "vocab_size", "data.vocabulary_size"),
        ("train", "patience", "callbacks.early_stopping.patience"),
        ("train", "ckpt_path", "resume"),
        ("train", "debug", "trainer.fast_dev_run"),
        ("train", "train", "python -m rnn_imdb.evaluate"),
        ("train", "dropout", "model.word_dropout or model.embedding_dropout or model.head_dropout"),
        ("train", "reedout", "model.readout"),
        ("train", "eps", "optimizer.eps"),
        ("evaluate", "max_len", "data.sequence_length"),
        ("evaluate", "root", "data.root"),
        ("evaluate", "data.split", "split"),
        ("benchmark", "batch_size", "data.batch_size"),
        ("benchmark", "lr", "optimizer.learning_rate"),
    ],
)
def test_an_unknown_name_is_looked_for_elsewhere(name: str, key: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"no option {re.escape(key.lstrip('+'))}: .*; did you mean {meant}\?$"):
        composed(name, f"{key}=1", *(["checkpoint=run"] if name == "evaluate" else []))


@pytest.mark.parametrize(
    ("name", "key"), [("evaluate", "readout"), ("evaluate", "vocab_size"), ("benchmark", "readout")]
)
def test_what_a_command_does_not_have_is_no_hint(name: str, key: str) -> None:
    with pytest.raises(UserError, match=rf"no option {key}: there are [\w, ]+$"):
        composed(name, f"{key}=1", *(["checkpoint=run"] if name == "evaluate" else []))


def test_every_synonym_stands_for_an_option() -> None:
    known = composed("train", "optimizer=adam")
    keys = set(SYNONYMS.values()) - {"python -m rnn_imdb.evaluate"}
    assert all(OmegaConf.select(known, key, default=...) is not ... for key in keys)


def test_a_run_that_goes_on_takes_its_data_along() -> None:
    # whatever the default source, for the run has its own
    assert composed("train", "resume=experiments/runs/mine", "data.root=moved").data.root == "moved"
    with pytest.raises(UserError, match="data=embedded reads"):
        composed("train", "resume=auto", "data.root=moved")


def test_every_ruled_option_has_a_test() -> None:
    ruled = {
        f"{group}{option.name}"
        for group, kind in (
            ("", schema.TrainConfig),
            ("data.", schema.DataConfig),
            ("model.", schema.ModelConfig),
            ("optimizer.", schema.RMSpropConfig),
            ("trainer.", schema.TrainerConfig),
        )
        for option in fields(kind)
        if option.metadata
    }
    assert ruled == set(RULES)


def test_configuration_is_said_in_short() -> None:
    said = in_short(composed("train", "model.readout=all", "model.state_dim=7", "optimizer=adam", "seed=5"))
    assert " ".join(said.split()) == (
        "config embedded reviews, readout all, state_dim 7, embedding_dim 32, adam 0.001, 3 epochs, seed 5"
    )
    assert max(map(len, said.splitlines())) <= 80
    assert "encoder conv, " in in_short(composed("train", "model.encoder=conv"))


def options(node: Any) -> Iterator[str]:
    """All keys of a configuration, those of its groups too."""
    for key, value in node.items_ex(resolve=False):
        yield str(key)
        if isinstance(value, DictConfig):
            yield from options(value)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_names_every_option(name: str) -> None:
    text = help_text(conf_root(name), name)
    result = composed("train") if name == "train" else composed("evaluate", "checkpoint=run")
    assert [key for key in options(result) if not re.search(rf"^ *{key}[:=]", text, re.MULTILINE)] == []


@pytest.mark.parametrize("name", ["train", "evaluate", "benchmark"])
def test_help_says_what_every_option_means(name: str) -> None:
    lines = help_text(conf_root(name), name).splitlines()
    options = [line for line in lines if re.match(r" *(?!usage)\w+: +\S", line) and "_target_" not in line]
    assert len(options) > 10
    assert [line for line in options if "  # " not in line] == []


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_names_every_choice_of_a_group(name: str) -> None:
    text = help_text(conf_root(name), name)
    for path in TRAIN_GROUPS if name == "train" else EVALUATE_GROUPS:
        assert f"\n  # {path.stem}: " in text


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_fits_80_columns(name: str) -> None:
    assert [line for line in help_text(conf_root(name), name).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("file", "key", "names"),
    [
        ("model/rnn.yaml", "readout", choices.READOUTS),
        ("model/rnn.yaml", "encoder", choices.ENCODERS),
        ("model/rnn.yaml", "activation", choices.ACTIVATIONS),
        ("model/rnn.yaml", "init", choices.INITIALIZERS),
        ("model/rnn.yaml", "scan", ("auto", *choices.SCANS)),
        ("evaluate/evaluate.yaml", "split", ("test", "validation", "train", "all")),
        ("base/data.yaml", "padding", ("pre", "post")),
        ("base/data.yaml", "truncation", ("pre", "post", "both")),
        *((f"optimizer/{name}.yaml", "schedule", ("constant", *choices.SCHEDULES)) for name in choices.OPTIMIZERS),
    ],
)
def test_comments_name_every_choice(file: str, key: str, names: Any) -> None:
    lines = (CONF / file).read_text().splitlines()
    (comment,) = [line.partition("#")[2] for line in lines if line.startswith(f"{key}:")]
    # either a list, or each choice with what it means
    named = re.findall(r"(\w+):", comment) or re.split(r", | or ", comment.strip())
    assert named == list(names)


@pytest.mark.parametrize(("group", "table"), [("optimizer", choices.OPTIMIZERS), ("data", choices.SOURCES)])
def test_groups_have_a_file_for_every_choice(group: str, table: dict[str, str]) -> None:
    assert {path.stem for path in (CONF / group).glob("*.yaml")} - {"own"} == set(table)
    field = "name" if group == "optimizer" else "source"
    for name in table:
        assert composed("train", f"{group}={name}")[group][field] == name


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("train", ["model.state_dims=3"], "did you mean model.state_dim?"),
        ("train", ["model.state_dim=0"], "model.state_dim must be a whole number from 1 to 4,096, got 0"),
        ("train", ["data.root=${nothing}"], "Interpolation key 'nothing' not found"),
        ("train", ["logger=null"], "Config group override must be a string"),
        ("train", ["model.readout"], "an option is KEY=VALUE"),
        ("train", ["-m", "seed=0,1", "model.state_dim=0"], "model.state_dim must be a whole number from 1"),
        ("train", ["-m", "seed=0,1", "trainer=ddp"], "a job of a sweep is one process"),
        ("train", ["-m", "seed=0,1", "trainer.fast_dev_run=1"], "got trainer.fast_dev_run=1, which leaves nothing"),
        ("train", ["-m", "seed=0,1", "resume=auto"], "a sweep resumes by itself"),
        ("train", ["-m", "seed=0,1", "modle=rnn"], "there is no option modle"),
        ("train", ["hydra.job.chdir=true"], "paths are those of the working directory, got hydra.job.chdir=true"),
        ("benchmark", ["data=aclimdb"], "data goes with epoch=true, which was not given"),
        ("train", ["resume=nosuch"], "nosuch does not exist, and experiments/runs has no run"),
        ("evaluate", [], "checkpoint must be given: add checkpoint=VALUE"),
        ("evaluate", ["nosuch"], "nosuch does not exist, and experiments/runs has no run"),
    ],
)
def test_commands_refuse_in_a_line_and_leave_nothing(
    called: Called, tmp_path: Path, name: str, overrides: list[str], message: str
) -> None:
    code, output, errors = called(name, *overrides)
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=aclimdb", "data.root=nosuch.tar.gz"], "data.root must be a folder or an archive that exists"),
        (
            ["hydra.output_subdir=.hydra", "hydra/job_logging=default", "data=aclimdb", "data.root=nosuch"],
            "data.root must be a folder or an archive that exists",
        ),
        (["hydra.run.dir=/proc/nope"], "files and folders must be readable and writable, but /proc/nope is not"),
        ([f"hydra.run.dir={300 * 'x'}"], "xxx is not (File name too long): make room or give access there"),
        (["-m", "hydra.sweep.dir=/proc/nope"], "files and folders must be readable and writable, but /proc/nope is"),
    ],
)
def test_runs_that_cannot_begin_leave_nothing(
    called: Called, tmp_path: Path, overrides: list[str], message: str
) -> None:
    code, _, errors = called("train", *overrides)
    assert code == 1
    assert errors.startswith("error: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_is_printed_whatever_else_is_given(command: Command, tmp_path: Path, name: str) -> None:
    done = command(name, "model.readout=first", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m rnn_imdb.{name} ")
    assert list(tmp_path.iterdir()) == []
