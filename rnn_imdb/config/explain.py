"""Why an option is refused: its rule, the valid names, and what a mistyped one may have meant."""

import difflib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib.util import find_spec

from hydra.errors import ConfigCompositionException
from omegaconf.errors import ValidationError

from rnn_imdb.config.lightning_options import NOT_PASSED_ON, PASSED_ON
from rnn_imdb.config.schema import SCHEMAS, TrainConfig, option_names

# what others call an option, or what it takes here
SYNONYMS = {
    name: meant
    for meant, names in {
        "optimizer.learning_rate": "lr",
        "optimizer.weight_decay": "wd l2",
        "trainer.max_epochs": "epoch epochs num_epochs n_epochs",
        "model.state_dim": "hidden_dim hidden_size units",
        "model.embedding_dim": "embed_dim embedding_size",
        "data.vocabulary_size": "vocab_size max_features",
        "data.sequence_length": "max_len max_length maxlen",
        "trainer.gradient_clip_val": "grad_clip clip",
        "callbacks.early_stopping.patience": "patience",
        "resume": "ckpt_path ckpt checkpoint",
        "trainer.fast_dev_run": "debug",
        "python -m rnn_imdb.evaluate": "train",
    }.items()
    for name in names.split()
}
# the groups whose options are not those of the schema of that name alone
_SCHEMAS = {"optimizer": ("rmsprop", "adam", "sgd", "own")}


def explain(error: Exception, command: str = "train") -> str:
    """What Hydra refused in a configuration of ``command``, with the rule and the valid names where they are known."""
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    key = getattr(cause, "full_key", None)
    schema = getattr(cause, "object_type", None)
    names = option_names(schema)
    if key and (names or isinstance(cause, ValidationError)):
        name = key.rpartition(".")[2]
        if names and name not in names:
            return unknown_key(key, names, option_names(SCHEMAS[command]))
        rules = {item.name: item.metadata.get("rule") for item in fields(schema)} if is_dataclass(schema) else {}
        must = f" must be {rule.text}" if (rule := rules.get(name)) else ""
        return f"{key}{must}: {str(cause).splitlines()[0]}"
    # neither says anything about the option
    lines = str(error).split("Config search path:")[0].splitlines()
    extra = "hydra/launcher/" in str(error) and find_spec("submitit") is None
    lines += ["joblib and slurm need pip install -e '.[sweep]'"] if extra else []
    return "\n".join(line for line in lines if line.strip() and "See https://hydra.cc" not in line)


def unknown_key(key: str, valid: list[str], top: Sequence[str] = ()) -> str:
    """The text of an error about a key that does not exist, or that only Lightning's Trainer knows.

    Args:
        key: what was given.
        valid: the names where it was looked for.
        top: the names at the top of the configuration; default: those of ``train``.
    """
    prefix, _, name = key.rpartition(".")
    if prefix == "trainer" and name in NOT_PASSED_ON:
        return f"{key} cannot be given: {NOT_PASSED_ON[name]}"
    if prefix == "trainer" and name in PASSED_ON:
        return f"{key} is an argument of Lightning's Trainer, which takes a plus sign: +{key}=VALUE"
    where = f"{prefix} has" if prefix else "there are"
    groups = (top or option_names(TrainConfig)) if prefix else valid
    near = [f"{prefix}.{each}" if prefix else each for each in difflib.get_close_matches(name, valid, n=1)]
    # another file of the group may have the option itself
    found = [each for each in _meant(name, groups, near) if each != key]
    hint = f"; did you mean {' or '.join(found[:3])}?" if found else ""
    return f"there is no option {key}: {where} {', '.join(valid)}{hint}"


def _meant(name: str, groups: Sequence[str], near: list[str]) -> list[str]:
    """Options that ``name`` may stand for: of that name, else what others call so, else ``near``, else alike."""
    schemas = _SCHEMAS | ({"data": ("evaluationdata",)} if "checkpoint" in groups else {})
    options = {group: group for group in groups} | {
        f"{group}.{option}": option
        for group in groups
        for schema in schemas.get(group, (group,))
        for option in option_names(SCHEMAS.get(schema))
    }
    synonym = SYNONYMS.get(name, "")
    # an option of a callback, whose names are the user's, is known by its group, and a command by itself
    known = synonym in options or synonym.split(".")[0] in ("python -m rnn_imdb", *{"callbacks"}.intersection(groups))
    alike = difflib.get_close_matches(name, options.values(), n=1)
    return (
        [key for key, option in options.items() if option == name]
        or ([synonym] if known else [])
        or near
        or [key for key, option in options.items() if name in option.split("_")]
        or [key for key, option in options.items() if option in alike]
    )
