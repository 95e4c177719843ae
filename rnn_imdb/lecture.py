"""The lecture's two models in plain PyTorch, with the loop in sight.

    Embedding(10000, 32) → SimpleRNN(32) → the last state, or all of them flattened → Dense(1, sigmoid)

The same in Keras is ``lecture_keras.py``, line by line; ``model/`` and ``scan/`` have it with options and fast. The
weights have the same names there, so ``load_state_dict`` takes those of a run (``Checkpoint.weights``).
"""

import torch
from torch import Tensor, nn


class SimpleRNN(nn.Module):
    """h_t = tanh(A [h_{t-1}; x_t] + b), with one A and one b for all steps, and h_0 = 0.

    >>> SimpleRNN(embedding_dim=2, state_dim=3)(torch.zeros(1, 4, 2)).shape
    torch.Size([1, 4, 3])
    """

    def __init__(self, embedding_dim: int = 32, state_dim: int = 32) -> None:
        super().__init__()
        # shape(h) x [shape(h) + shape(x)]
        self.A = nn.Parameter(torch.empty(state_dim, state_dim + embedding_dim))
        self.b = nn.Parameter(torch.zeros(state_dim))
        nn.init.orthogonal_(self.A.data[:, :state_dim])
        nn.init.xavier_uniform_(self.A.data[:, state_dim:])

    def forward(self, x: Tensor) -> Tensor:
        """All states h_1 .. h_T (B, T, H) of the inputs x_1 .. x_T (B, T, E)."""
        h = x.new_zeros(len(x), len(self.b))
        states = []
        for x_t in x.unbind(dim=1):
            h = torch.tanh(torch.cat([h, x_t], dim=1) @ self.A.T + self.b)
            states.append(h)
        return torch.stack(states, dim=1)


class LectureLast(nn.Module):
    """Decide by the last state alone: 322,113 parameters.

    >>> sum(weight.numel() for weight in LectureLast().parameters())
    322113
    """

    def __init__(self, vocabulary_size: int = 10_000) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 32)
        self.cell = SimpleRNN(32, 32)
        self.head = nn.Linear(32, 1)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B,) of reviews (B, T); sigmoid(logit) is P(positive)."""
        states = self.cell(self.embedding(tokens))
        return self.head(states[:, -1]).squeeze(1)


class LectureAll(nn.Module):
    """Decide by all states side by side: 338,081 parameters, and reviews of one length only.

    >>> sum(weight.numel() for weight in LectureAll().parameters())
    338081
    """

    def __init__(self, vocabulary_size: int = 10_000, sequence_length: int = 500) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 32)
        self.cell = SimpleRNN(32, 32)
        self.head = nn.Linear(sequence_length * 32, 1)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B,) of reviews (B, T); sigmoid(logit) is P(positive)."""
        states = self.cell(self.embedding(tokens))
        return self.head(states.flatten(1)).squeeze(1)
