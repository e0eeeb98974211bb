"""Batches made ahead of their steps by other processes, for a device that trains faster than one core makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from culling.cloud.model.target import Target

Batches = Callable[[int, int], tuple[Tensor, list[Target]]]

AHEAD = 4
"""How many batches each process may be ahead."""


class Prefetch:
    """Answers what `batches` does, as long as the steps of one worker of the run follow each other.

    `processes` of them are forked at the first call; after a jump to another step they start again from there.
    """

    def __init__(self, batches: Batches, processes: int) -> None:
        self._batches = batches
        self._processes = processes
        self._next: tuple[int, int] | None = None
        self._made: Iterator[Any] = iter(())

    def __call__(self, step: int, rank: int = 0) -> tuple[Tensor, list[Target]]:
        """Return the images and targets of one step of one worker."""
        if self._next != (step, rank):
            self._made = self._start(step, rank)
        self._next = (step + 1, rank)
        images, targets = next(self._made)
        return images, [Target(*parts) for parts in targets]

    def _start(self, step: int, rank: int) -> Iterator[Any]:
        steps = _Steps(self._batches, rank)
        return iter(
            DataLoader(
                steps,
                batch_size=None,
                sampler=_From(step),
                num_workers=self._processes,
                prefetch_factor=AHEAD,
                multiprocessing_context="fork",
                pin_memory=torch.cuda.is_available(),
                worker_init_fn=_one_thread,
            )
        )


class _Steps(Dataset[Any]):
    def __init__(self, batches: Batches, rank: int) -> None:
        self._batches, self._rank = batches, rank

    def __getitem__(self, step: int) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        images, targets = self._batches(step, self._rank)
        return images, [target.parts for target in targets]


class _From(Sampler[int]):
    def __init__(self, step: int) -> None:
        self._step = step

    def __iter__(self) -> Iterator[int]:
        step = self._step
        while True:
            yield step
            step += 1


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
