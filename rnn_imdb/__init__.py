"""A hand-built tanh RNN that classifies IMDB reviews, with PyTorch Lightning and Hydra.

    h_t = tanh(A [h_{t-1}; x_t] + b)

The README gives an order to read the modules in.
"""

__version__ = "0.1.0"
