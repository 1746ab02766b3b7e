"""What the files in the trees of trials are called.

Knows no store.
"""

CHECKPOINT_PATH = "/checkpoint.pkl"
"""What ``trial.restore()`` gives."""

CHECKPOINT_DIRECTORY = "/checkpoint"
"""Files of a checkpoint that is a directory, below it; then there is no CHECKPOINT_PATH."""

MODEL_PATH = "/model.pkl"
"""The model that the function returned, where it is not the checkpoint or the trial is done."""

META_PATH = "/meta.json"
"""Which trial, its parameters and seed, the steps behind it, and the user's own notes."""

META_FORMAT = 1

SHARDS = "/ranks"
"""Below it ``/RANK/…``: the checkpoint of each rank but the first, where each has its own part."""
