"""Which digit is it? A small network that several processes train, on GPUs where there are some.

Needs PyTorch (pip install torch). What differs from a script for torchrun is one line for
each of: restore, steps, report, checkpoint.
"""

import os

import numpy as np
import polars as pl
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import clew

WORKERS = int(os.environ.get("DIGITS_WORKERS", "2"))
STEPS = int(os.environ.get("DIGITS_STEPS", "8"))
BATCH = 64

digits = clew.Pipeline("digits")
images = digits.source("images")


class Reader:
    """The trained network as a model that is asked with a frame."""

    def __init__(self, weights):
        self.weights = weights

    def predict(self, frame):
        network = make_network()
        network.load_state_dict(self.weights)
        with torch.no_grad():
            return network(pixels(frame)).argmax(1).numpy()


def make_network():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def pixels(frame):
    columns = [frame[f"p{n}"].to_numpy() for n in range(64)]
    return torch.tensor(np.stack(columns, axis=1) / 16.0, dtype=torch.float32)


@digits.train(
    images,
    target="digit",
    test=clew.holdout(0.2),
    search=clew.single(metric="loss", max_steps=STEPS, seed=4),
    workers=WORKERS,
)
def reader(data: pl.DataFrame, trial: clew.Trial):
    """Each rank learns from its share of every batch; gradients are averaged over the ranks."""
    device = torch.device("cpu")
    if torch.cuda.is_available():  # never where the launcher found too few GPUs for all ranks
        device = torch.device("cuda", trial.local_rank)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(trial.seed)
    network = DistributedDataParallel(make_network().to(device))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    saved = trial.restore()
    if saved:
        network.module.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
    x, y = pixels(data).to(device), torch.tensor(data["digit"].to_numpy()).to(device)
    for step in trial.steps():
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(step))
        total = torch.zeros((), device=device)
        for batch in order.split(BATCH):
            own = batch[trial.rank :: trial.world_size].to(device)
            loss = nn.functional.cross_entropy(network(x[own]), y[own])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        dist.all_reduce(total)
        batches = len(order.split(BATCH)) * trial.world_size
        trial.report(step, loss=total.item() / batches)
        trial.checkpoint(
            {"network": network.module.state_dict(), "optimizer": optimizer.state_dict()}
        )
    trial.log(f"trained on {device} as rank {trial.rank} of {trial.world_size}")
    dist.destroy_process_group()
    return Reader({name: one.cpu() for name, one in network.module.state_dict().items()})
