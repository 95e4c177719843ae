"""A hand-built tanh RNN that classifies IMDB reviews, with PyTorch Lightning and Hydra.

    h_t = tanh(A [h_{t-1}; x_t] + b)

Read in this order: ``text``, ``reviews``, ``cache``, ``data`` (from files to batches); ``scan``, ``cell``,
``readout``, ``classifier``, ``module`` (from batches to a loss); ``config``, ``train``, ``evaluate``, ``predict``.
"""

__version__ = "0.1.0"
