"""The names in a configuration are those of the tables of classes, of which start-up cannot know."""

import pytest

from rnn_imdb.config import names
from rnn_imdb.data.sources import SOURCES
from rnn_imdb.model import ENCODERS
from rnn_imdb.model.cell import ACTIVATIONS
from rnn_imdb.model.initialization import INITIALIZERS
from rnn_imdb.model.readout import READOUTS
from rnn_imdb.scan import BACKENDS
from rnn_imdb.training.optimizers import OPTIMIZERS, SCHEDULES

TABLES = {
    "ENCODERS": ENCODERS,
    "ACTIVATIONS": ACTIVATIONS,
    "INITIALIZERS": INITIALIZERS,
    "READOUTS": READOUTS,
    "SCANS": BACKENDS,
    "OPTIMIZERS": OPTIMIZERS,
    "SCHEDULES": SCHEDULES,
    "SOURCES": SOURCES,
}


@pytest.mark.parametrize("name", TABLES)
def test_names_are_those_of_the_table(name: str) -> None:
    # figures are no classes
    assert {each for each in vars(names) if each.isupper()} == {*TABLES, "FIGURES", "OBJECTIVES"}
    assert sorted(getattr(names, name)) == sorted(TABLES[name])
