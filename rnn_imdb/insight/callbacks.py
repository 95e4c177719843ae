"""Callbacks that measure a model while it is trained, and show in TensorBoard what they find.

They draw no random numbers and leave no gradients behind: the trained weights are bitwise those of a run without them.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from rnn_imdb.common.style import look
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.splits import Split
from rnn_imdb.data.text import PAD_INDEX, UNKNOWN_INDEX
from rnn_imdb.insight import figures, forgetting, quality, states
from rnn_imdb.insight.explanation import polarities
from rnn_imdb.model.cell import TanhCell
from rnn_imdb.model.initialization import spectral_radius
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.training.board import tensorboard_writers
from rnn_imdb.training.module import SentimentModule


class Insight(L.Callback):
    """Base of the callbacks here; refuses counts below 1 by a ValueError."""

    def __init__(self, **counts: int) -> None:
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be a whole number from 1, got {count}")


def log_figure(trainer: L.Trainer, tag: str, step: int, draw: Callable[..., Figure], *arguments: Any) -> None:
    """Draw ``draw(*arguments)`` for each TensorBoard."""
    for writer in tensorboard_writers(trainer):
        with look():
            writer.add_figure(tag, draw(*arguments), step)


def last_step(trainer: L.Trainer) -> int:
    """The last step done: where Lightning puts the validation's figures too, and which a resumed run keeps."""
    return trainer.global_step - 1


def data_of(trainer: L.Trainer) -> IMDBDataModule:
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] Lightning sets it


def sample(split: Split, reviews: int, device: torch.device) -> Tensor:
    """Tokens (B, T) of the first ``reviews`` reviews of a split, in which the classes are mixed."""
    return torch.from_numpy(split.tokens[:reviews].astype(np.int64)).to(device)


class RecurrenceInsight(Insight):
    """Calls ``measure`` on the first ``reviews`` validation reviews after each validation, in the first process alone.

    A classifier without our recurrence is not measured, which one line says at the start.
    """

    def __init__(self, reviews: int) -> None:
        super().__init__(reviews=reviews)
        self.reviews = reviews

    def measure(self, trainer: L.Trainer, classifier: ReviewClassifier, tokens: Tensor) -> dict[str, float]:
        """Scalars of the reviews ``tokens`` (B, T); the classifier is in evaluation mode, and gradients are off."""
        raise NotImplementedError

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and not isinstance(pl_module.classifier, ReviewClassifier):
            print(f"{type(self).__name__} has nothing to show: the classifier has no recurrence that it knows")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        classifier = _with_our_cell(pl_module)
        # of weights that are no numbers there is nothing to see, and the validation loss says so
        if not (classifier and trainer.is_global_zero and all(w.isfinite().all() for w in classifier.parameters())):
            return
        # Lightning validates in inference mode, whose tensors can have no gradient later
        with torch.inference_mode(False), torch.no_grad():
            tokens = sample(data_of(trainer).split("validation"), self.reviews, classifier.head.weight.device)
            scalars = self.measure(trainer, classifier, tokens)
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=last_step(trainer))


def _with_our_cell(module: L.LightningModule) -> ReviewClassifier | None:
    classifier = module.classifier
    # the benchmark puts another cell into the place of ours
    return classifier if isinstance(classifier, ReviewClassifier) and isinstance(classifier.cell, TanhCell) else None


class ForgettingCurve(RecurrenceInsight):
    """Logs ``insight/memory_length``, of the mean curve, and ``insight/typical_memory_length``, of the median.

    Where ``figure`` is set, it draws both as ``insight/forgetting``.
    """

    def __init__(self, reviews: int = 250, *, figure: bool = True) -> None:
        super().__init__(reviews)
        self.figure = figure

    def measure(self, trainer: L.Trainer, classifier: ReviewClassifier, tokens: Tensor) -> dict[str, float]:
        norms = forgetting.influence(classifier, tokens)
        if self.figure:
            epoch = trainer.current_epoch + 1
            log_figure(trainer, "insight/forgetting", last_step(trainer), figures.draw_forgetting, norms, epoch)
        return {
            "insight/memory_length": forgetting.memory_length(forgetting.forgetting_curve(norms)),
            "insight/typical_memory_length": forgetting.memory_length(forgetting.typical_curve(norms)),
        }


class StateHealth(RecurrenceInsight):
    """Logs, under ``insight/``, after each validation

    - ``saturated``: the share of a tanh's states beyond ±0.95, where it hardly passes on gradients, at words alone
      (over padding it would measure how short the reviews are);
    - ``spectral_radius``: max |λ| of the recurrent part of A; below 1 a linear recurrence forgets, above it explodes;
    - ``gradient_norm``: of the last training step of the epoch, before clipping, over all parameters;

    and, where ``figures`` is set, ``states``, h_t over the last words of the same two short reviews, and histograms of
    the weights, which begin with those before the first step.
    """

    def __init__(self, reviews: int = 250, *, figures: bool = True) -> None:
        super().__init__(reviews)
        self.figures = figures
        self._gradient_norm: Tensor | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        classifier = _with_our_cell(pl_module)
        if self.figures and classifier is not None and trainer.global_step == 0:
            self._write_histograms(trainer, classifier, 0)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        # Lightning clears gradients before it validates
        if trainer.is_last_batch:
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            self._gradient_norm = torch.nn.utils.get_total_norm(gradients)

    def measure(self, trainer: L.Trainer, classifier: ReviewClassifier, tokens: Tensor) -> dict[str, float]:
        cell = classifier.cell
        scalars = {"insight/spectral_radius": spectral_radius(cell.recurrent_weight)}
        # the states of a linear recurrence have no bounds
        if not cell.linear:
            found = states.hidden_states(classifier, tokens)
            scalars["insight/saturated"] = states.saturated(found, tokens != PAD_INDEX)
        # a validation within an epoch has none
        if self._gradient_norm is not None:
            scalars["insight/gradient_norm"] = self._gradient_norm.item()
            self._gradient_norm = None
        if self.figures and tensorboard_writers(trainer):
            data, step = data_of(trainer), last_step(trainer)
            reviews = states.short_reviews(classifier, data.split("validation"), data.vocabulary)
            log_figure(trainer, "insight/states", step, figures.draw_states, reviews, trainer.current_epoch + 1)
            self._write_histograms(trainer, classifier, step)
        return scalars

    def _write_histograms(self, trainer: L.Trainer, classifier: ReviewClassifier, step: int) -> None:
        cell, embedding = classifier.cell, classifier.embedding.weight
        parts = {"A_recurrent": cell.recurrent_weight, "A_input": cell.input_weight, "embedding": embedding}
        for writer in tensorboard_writers(trainer):
            for name, weights in parts.items():
                writer.add_histogram(f"insight/{name}", weights.float(), step)


class Quality(Insight):
    """Shows in TensorBoard what is behind the accuracy of each validation, and of the test:

    - ``precision_recall``, among the PR curves: precision and recall at 127 thresholds;
    - ``reliability``, a plot of the share of positive reviews against the P(positive) that the model gives them;
    - ``confusion``, a plot of counts by class and prediction;
    - ``mistakes``, a text: the ``mistakes`` wrong predictions that the model was surest of, with the last ``words`` of
      those that it read.
    """

    def __init__(self, mistakes: int = 10, words: int = 60) -> None:
        super().__init__(mistakes=mistakes, words=words)
        self.mistakes = mistakes
        self.words = words
        self._logits: list[Tensor] = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any, **kwargs: Any
    ) -> None:
        self._logits.append(outputs)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._log(trainer, "validation", trainer.val_dataloaders, last_step(trainer))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SentimentModule)
        self._log(trainer, "test", trainer.test_dataloaders, pl_module.tested_step)

    def _log(self, trainer: L.Trainer, stage: str, loader: Any, step: int) -> None:
        logits = torch.cat(self._logits).float()
        self._logits.clear()
        # which reviews these are; a limited evaluation stops before the sampler's end
        positions = torch.from_numpy(np.concatenate(list(loader.sampler))[: len(logits)]).to(logits.device)
        if trainer.world_size > 1:
            logits, positions = (torch.cat(gather_all_tensors(values)) for values in (logits, positions))
        # of logits that are no numbers there is nothing to see, and the loss says so
        if not ((writers := tensorboard_writers(trainer)) and logits.isfinite().all()):
            return
        data, rows = data_of(trainer), positions.cpu().numpy()
        split = data.split(stage)
        labels, probabilities = split.labels[rows], logits.sigmoid().cpu().numpy()
        worst = quality.worst_mistakes(logits.cpu().numpy(), labels, self.mistakes)
        shown = split.tokens[rows[worst]], labels[worst], probabilities[worst]
        table = quality.mistakes_table(*shown, data.vocabulary, self.words)
        for writer in writers:
            writer.add_pr_curve(f"{stage}/precision_recall", labels, probabilities, step)
            writer.add_text(f"{stage}/mistakes", table, step)
        note = f"{stage} of {len(rows):,} reviews"
        found, counts = quality.reliability(probabilities, labels), quality.confusion(probabilities, labels)
        log_figure(trainer, f"{stage}/reliability", step, figures.draw_reliability, found, note)
        log_figure(trainer, f"{stage}/confusion", step, figures.draw_confusion, counts, note)


class WordMap(Insight):
    """Shows the ``words`` most frequent words in TensorBoard's projector, as the training's last weights embed them.

    Beside each stand its frequency, among the tokens of the training split that the model reads, and its polarity,
    which colours it from orange, for a negative review, through grey to blue. ``<pad>`` and ``<unk>`` are left out.
    """

    def __init__(self, words: int = 2000) -> None:
        super().__init__(words=words)
        self.words = words

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # unlike on_train_end, this also comes to a run that is resumed when only its end is missing
        if not (writers := tensorboard_writers(trainer)):
            return
        assert isinstance(pl_module, SentimentModule)
        data = data_of(trainer)
        shown = slice(UNKNOWN_INDEX + 1, UNKNOWN_INDEX + 1 + self.words)
        # Lightning has moved the module to the CPU by now, where not every scan runs
        classifier = deepcopy(pl_module.classifier).to(trainer.strategy.root_device).eval()
        indices, count = range(len(data.vocabulary))[shown], len(data.vocabulary)
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            values = polarities(classifier, data.encoding, indices, batch_size=data.evaluation_batch_size)
        frequencies = np.bincount(data.split("train").tokens.ravel(), minlength=count)
        columns = data.vocabulary.words[shown], frequencies[shown], (f"{value:.6g}" for value in values)
        options = {
            "metadata": list(zip(*columns, strict=True)),
            "metadata_header": ["word", "frequency", "polarity"],
            # the projector opens without a colour map, but shows images at once: squares of one colour, 8 x 8 pixels
            "label_img": figures.coloured(values)[:, :, None, None].expand(-1, -1, 8, 8),
        }
        for writer in writers:
            vectors = classifier.embedding.weight[shown].float()
            writer.add_embedding(vectors, **options, global_step=last_step(trainer), tag="word_map")
