"""Why tanh: a linear recurrence makes a state vanish or explode, tanh keeps it bounded. What training makes of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.common import Study, group_by, panels, rows_of
from rnn_imdb.common.style import COLOURS, GREY
from rnn_imdb.model.cell import ACTIVATIONS
from rnn_imdb.model.initialization import spectral_radius
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.sweeps.results import Job
from rnn_imdb.training.checkpoint import open_checkpoint

KEYS = ("model.activation", "model.spectral_radius")
RADIUS = "trained_spectral_radius"
RADII = (0.9, 1.0, 1.2)
STATE_DIM = 32
STEPS = 500
DRAWS = 20
TITLES = {"identity": r"identity: $h_t = W h_{t-1}$", "tanh": r"tanh: $h_t = \tanh(W h_{t-1})$"}
# an overflow in the training, or in the validation
DIVERGED = "loss must be (a )?finite"

Norms = Mapping[tuple[str, float], Float[Tensor, "draws time"]]


def norms(activation: str, radius: float, draws: int = DRAWS) -> Float[Tensor, "draws time"]:
    """Norms of the states that follow a random one without inputs,

        ‖h_t‖₂        h_t = φ(W h_{t-1})        t = 1 .. T,  ‖h_0‖₂ = 1

    for ``draws`` orthogonal W scaled to the spectral radius ``radius``, in float64: a linear h_t has the norm
    radius^t, which float32 cannot hold.
    """
    found = []
    for seed in range(draws):
        torch.manual_seed(seed)
        cell = ACTIVATIONS[activation](1, STATE_DIM, spectral_radius=radius).double()
        start = torch.nn.functional.normalize(torch.randn(1, STATE_DIM, dtype=torch.float64))
        with torch.no_grad():
            states = cell(start.new_zeros(1, STEPS, 1), initial_state=start)  # (1, T, H)
        found.append(states[0].norm(dim=1))
    return torch.stack(found)


def draw(measured: Norms) -> Any:
    title = f"A state without inputs: mean and range of {DRAWS} orthogonal W with spectral radius r"
    figure, found = panels(title, list(TITLES.values()), "step t", r"norm of the state, $\|h_t\|_2$", sharey=False)
    axes = dict(zip(TITLES, found, strict=True))
    for (activation, radius), curves in measured.items():
        axis, colour = axes[activation], COLOURS[RADII.index(radius)]
        steps, mean = range(1, STEPS + 1), curves.mean(0)
        axis.fill_between(steps, curves.amin(0), curves.amax(0), color=colour, alpha=0.2, linewidth=0)
        axis.plot(steps, mean, color=colour)
        # beside the last point that the axis shows
        shown = int((mean > 2e-3).sum()) if activation == "tanh" else STEPS
        axis.text(shown, float(mean[shown - 1]), f"  r = {radius}", color=colour, va="center")
        axis.set(yscale="log", xlim=(0, 1.3 * STEPS), xticks=range(0, STEPS + 1, 100))
    axes["tanh"].set_ylim(1e-3, 20)
    axes["tanh"].axhline(STATE_DIM**0.5, color=GREY, linestyle="--")
    axes["tanh"].text(10, 1.15 * STATE_DIM**0.5, "no state is longer than √32", color="#555555")
    return figure


def norm_rows(measured: Norms) -> list[dict[str, Any]]:
    """The mean and the range over draws, a row a step."""
    return [
        {"activation": name, "spectral_radius": radius, "step": step}
        | {"mean": f"{norm.mean():.4g}", "lowest": f"{norm.min():.4g}", "highest": f"{norm.max():.4g}"}
        for (name, radius), curves in measured.items()
        for step, norm in enumerate(curves.T, start=1)
    ]


def trained_radius(job: Job) -> float:
    """The spectral radius of the recurrent part of A after the best epoch."""
    classifier = open_checkpoint(job.folder).classifier()
    assert isinstance(classifier, ReviewClassifier)
    return spectral_radius(classifier.cell.recurrent_weight)


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "Why tanh: the norm of the state, and trainings with and without tanh.", arguments)
    draws = 2 if study.short else DRAWS
    measured = {(name, radius): norms(name, radius, draws) for name in TITLES for radius in RADII}
    study.write_rows(norm_rows(measured), "norms.csv")
    study.save(lambda: draw(measured), "norms.png")

    jobs = study.sweep(failure=DIVERGED)
    rows = []
    for job, row in zip(jobs, rows_of(jobs, KEYS), strict=True):
        if job.status == "finished":
            job.metrics[RADIUS] = trained_radius(job)
        rows.append(row | {RADIUS: round(job.metrics[RADIUS], 4) if RADIUS in job.metrics else "", "error": job.error})
    study.write_rows(rows)
    columns = ("validation %", "test %", "radius after training", "diverged")
    study.write_summary(("activation", "radius at the start"), group_by(jobs, *KEYS), columns)


if __name__ == "__main__":
    main()
