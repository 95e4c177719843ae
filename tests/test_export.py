"""A checkpoint's classifier in the hands of other programs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import T, name_of, small_classifier, token_rows

from rnn_imdb.data.text import Vocabulary
from rnn_imdb.export import main
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.training import checkpoint

# torch's own, of what its exporters import
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Opened:
    """As much of a checkpoint as is exported."""

    config = {"data": {"sequence_length": T}}
    vocabulary = Vocabulary(["<pad>", "<unk>", "film"])

    def __init__(self, model: Classifier) -> None:
        self.model = model

    def classifier(self) -> Classifier:
        return self.model.eval()


def export(model: Classifier, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "open_checkpoint", lambda _: Opened(model))
    main([__file__, str(path)])


@pytest.mark.parametrize(
    "options",
    [{"bigrams": 29}, {"activation": "identity", "readout": "mean_max", "bidirectional": True, "mask_padding": True}],
    ids=name_of,
)
def test_torch_export_gives_the_same_logits(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path, words = small_classifier(**options), tmp_path / "model.pt2", {"vocabulary": ""}
    export(model, path, monkeypatch)
    program = torch.export.load(path, extra_files=words).module()
    assert words["vocabulary"].splitlines() == Opened.vocabulary.words
    for batch in (1, 5):
        tokens = token_rows(batch, padding=3)
        torch.testing.assert_close(program(tokens), model(tokens), atol=1e-5, rtol=0)


def test_onnx_gives_the_same_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="an extra (export)")
    runtime = pytest.importorskip("onnxruntime", reason="runs what was exported")
    # whichever scan was asked for
    model, path = small_classifier(readout="attention", mask_padding=True, scan="bptt"), tmp_path / "model.onnx"
    export(model, path, monkeypatch)
    session = runtime.InferenceSession(path)
    assert session.get_modelmeta().custom_metadata_map["vocabulary"].splitlines() == Opened.vocabulary.words
    for batch in (1, 5):
        tokens = token_rows(batch, padding=3)
        (logits,) = session.run(["logits"], {"tokens": tokens.numpy()})
        np.testing.assert_allclose(logits, model(tokens).detach().numpy(), atol=1e-5, rtol=0)


def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(model: Classifier, name: str) -> str:
        with pytest.raises(SystemExit):
            export(model, tmp_path / name, monkeypatch)
        return capsys.readouterr().err

    assert "must end in .onnx or .pt2, got" in refused(small_classifier(), "model.bin")
    monkeypatch.setattr("rnn_imdb.export.find_spec", lambda _: None)
    assert "pip install 'rnn_imdb[export]', or name a .pt2" in refused(small_classifier(), "model.onnx")
    monkeypatch.setattr("rnn_imdb.export.find_spec", find_spec if find_spec("onnx") else lambda _: True)
    assert "model.bigrams needs: name a .pt2 file" in refused(small_classifier(bigrams=9), "model.onnx")
    assert list(tmp_path.iterdir()) == []
