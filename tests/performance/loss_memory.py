"""A process that computes one loss and its gradient, and prints how much memory that took at most."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers.loss.loss_utils import ForCausalLMLoss

from anneal.estimate.memory import PIECE_LOGITS
from anneal_trainer.fit.loss import in_pieces

#: Narrow states: what is compared are the logits, and their width only costs time.
LABELS, HIDDEN, VOCABULARY = 2048, 256, 131_072


def main(way: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False).requires_grad_(requires_grad=False)
    states = torch.randn(LABELS, HIDDEN, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (LABELS,))
    before = _highest()
    if way == "stock":
        # The stock loss moves labels by one, so one is put before them.
        labels = torch.cat([targets[:1], targets])[None]
        loss = ForCausalLMLoss(head(states)[None], labels[:, :-1], VOCABULARY, shift_labels=targets[None])
    else:
        loss = in_pieces(head, states, targets, PIECE_LOGITS // VOCABULARY) / LABELS
    loss.backward()
    assert states.grad is not None
    print(_highest() - before, loss.item())


def _highest() -> int:
    """The most memory that this program ever had, in bytes. (getrusage counts what its parent had before the exec.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
