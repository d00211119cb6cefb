"""Which two neighbour slots are one edge seen from its two ends."""

from __future__ import annotations

import torch
from torch import Tensor


def reverse_slots(sender: Tensor, vectors: Tensor, n_slots: int, n_senders: int) -> Tensor | None:
    """For each slot that of the same edge seen from its other end.

    Between two atoms the edges are paired by length. Slots that hold their own atom, the empty ones too, are paired with
    themselves.

    Args:
        sender: The neighbour in each slot, of shape (n_atoms * n_slots,).
        vectors: Atom minus neighbour image, of shape (n_atoms * n_slots, 3).
        n_slots: Slots of each atom.
        n_senders: Number of atoms that may be neighbours.

    Returns:
        Of shape (n_atoms * n_slots,); None where some edges lack their reverse, as in a block of the atoms.
    """
    if sender.shape[0] != n_senders * n_slots:
        return None
    receiver = torch.arange(n_senders, device=sender.device).repeat_interleave(n_slots)
    by_length = torch.argsort(torch.linalg.vector_norm(vectors.detach(), dim=1))
    own, reverse = receiver * n_senders + sender, sender * n_senders + receiver
    first, second = (by_length[torch.argsort(key[by_length], stable=True)] for key in (own, reverse))
    if not torch.equal(own[first], reverse[second]):
        return None  # Rounding can tell the two ends of an edge apart that is as long as the cutoff.
    return torch.empty_like(first).index_copy(0, first, second)


def distinct_slots(reverse: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
    """Slots of different length, and for each slot its place among them.

    Args:
        reverse: From :func:`reverse_slots`; an edge and its reverse have the same length.
        filled: Which slots hold a neighbour, of the same shape; all others have the same length.
    """
    own = torch.arange(len(reverse), device=reverse.device)
    shared = torch.minimum(own, reverse)
    empty = own[~filled]
    shared[empty] = empty[:1]
    kept = shared == own
    return own[kept], (torch.cumsum(kept, dim=0) - 1)[shared]
