"""The names a configuration can choose from, and what each stands for. Nothing heavy is imported here.

A new entry is one line in its table and one class or module of the name given there.
"""

# encoder -> class known to rnn_imdb.encoders
ENCODERS = {
    "rnn": "ReviewClassifier",
    "dense": "DenseClassifier",
    "conv": "ConvClassifier",
}

# activation of the recurrence -> class in rnn_imdb.cell
ACTIVATIONS = {
    "tanh": "TanhCell",
    "identity": "LinearCell",
}

# initialisation -> class in rnn_imdb.initialization
INITIALIZERS = {
    "keras": "KerasInitializer",
    "torch": "TorchInitializer",
}

# readout -> class in rnn_imdb.readout
READOUTS = {
    "last": "LastState",
    "all": "AllStates",
    "mean": "MeanState",
    "max": "MaxState",
    "mean_max": "MeanMaxState",
    "attention": "AttentionState",
}

# scan backend -> module in rnn_imdb.scan, imported when first used
SCANS = {
    "reference": "rnn_imdb.scan.reference",
    "bptt": "rnn_imdb.scan.bptt",
    "cpu": "rnn_imdb.scan.cpu",
    "triton": "rnn_imdb.scan.gpu",
    "cudnn": "rnn_imdb.scan.cudnn",
}

# what a linear recurrence can be asked to run in
LINEAR_SCANS = ("auto", "bptt")

# optimizer -> its module and class
OPTIMIZERS = {
    "rmsprop": ("rnn_imdb.rmsprop", "RMSprop"),
    "adam": ("torch.optim", "Adam"),
    "adamw": ("torch.optim", "AdamW"),
    "sgd": ("torch.optim", "SGD"),
}

# schedule of a learning rate that is not constant -> function in rnn_imdb.schedules
SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "one_cycle": "one_cycle",
}

# data source -> class in rnn_imdb.reviews
SOURCES = {
    "embedded": "EmbeddedReviews",
    "aclimdb": "AclImdbReviews",
}
