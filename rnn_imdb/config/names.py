"""The names that a configuration can choose from. Each stands for a class or function where that is defined."""

ENCODERS = ("rnn", "dense", "conv")
ACTIVATIONS = ("tanh", "identity")
INITIALIZERS = ("keras", "torch")
READOUTS = ("last", "all", "mean", "max", "mean_max", "attention")
SCANS = ("reference", "bptt", "cpu", "triton", "cudnn")
OPTIMIZERS = ("rmsprop", "adam", "adamw", "sgd")
SCHEDULES = ("linear", "cosine", "one_cycle")
SOURCES = ("embedded", "aclimdb", "csv")
# a figure of each epoch -> the mode in which it is watched
FIGURES = {"validation/loss": "min", "validation/accuracy": "max", "train/loss": "min", "train/accuracy": "max"}
# what a search may make better; never a figure of the test
OBJECTIVES = {**FIGURES, "parameters": "min", "seconds": "min"}
