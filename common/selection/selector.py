"""Which frames leave the camera's side: online culling under a budget. No I/O; time and randomness are passed in.

Offline, the k hardest frames of a whole day are kept. Here frames come one by one, and each is decided on at once:

    FORWARD  it may leave now:     hard             only the best frames of a window reach its loss
                                   bootstrap        one of a new camera's first frames, spread over a window
    HOLD     it waits:             hard             it is among the best of its window so far; when the window closes,
                                                    the best held frames leave within the budget, the rest are dropped
                                   audit            drawn, for now, among all that do not leave as hard
    SKIP     it stays:             empty            the student found nothing uncertain in it
                                   below-threshold  not among the best of its window
                                   spacing          too soon after a frame that was kept
                                   duplicate        looks like a frame that was kept
                                   budget           nothing more may leave
                                   not-drawn, not-due, edge-only (baselines)

Delay against overlap is `eager_share`. At 0 every hard frame waits, and what leaves is exactly the offline top-k of
the window, among the frames that spacing and likeness did not bar. At 1 all hard frames may leave at once, and the
overlap is as good as the past predicts; frames that missed the threshold still leave when the window closes, within the
budget.

Audits are a uniform sample of the frames of a window that did not leave, whatever they stayed for: a share of the
budget is theirs alone, and which are drawn is settled when the window closes. So each has a known probability, the
number drawn over the number that stayed, and stands for that many frames. To keep it exact, a draw changes nothing of
what becomes of other frames.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from culling.common.clock import DAY_S
from culling.common.config import Section
from culling.common.selection.budget import NOTHING, UNLIMITED, Budget, Spent
from culling.common.selection.kept import Kept
from culling.common.selection.sampling import Draw, Lottery, Reservoir, Tail

THUMBNAIL = (32, 32)
"""Height and width of the pictures by which likeness is judged: the green of a frame, scaled."""


class SelectorSettings(Section):
    """`[selector]`: which frames may leave a camera's side, and how soon."""

    policy: Literal["culling", "random", "interval", "cloud-only", "edge-only"] = Field(
        default="culling",
        description="culling: the hardest frames; baselines: random and interval spend the same budget blindly, "
        "cloud-only forwards every frame within the daily limits, edge-only none",
    )
    frames_per_window: int = Field(default=40, ge=1, le=100_000, description="frames that may leave in one window")
    window_s: float = Field(default=3600.0, gt=0.0, le=DAY_S, description="length of a window, seconds")
    frames_per_day: int | None = Field(default=None, ge=0, description="frames that may leave in a UTC day")
    bytes_per_day: int | None = Field(default=None, ge=0, description="bytes of JPEG that may leave in a UTC day")
    eager_share: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="share of the hard frames that may leave before their window closes; 0: exactly the window's "
        "hardest frames, all of them late; 1: the least delay",
    )
    spacing_s: float = Field(default=2.0, ge=0.0, description="least seconds between two hard frames; 0: off")
    duplicate_change: float = Field(
        default=12.0,
        ge=0.0,
        le=255.0,
        description="a hard frame of which no cell of the thumbnail differs by this (grey levels) from a kept one is a "
        "duplicate; 0: off",
    )
    audit_share: float = Field(
        default=0.05,
        ge=0.0,
        le=0.5,
        description="share of the budget that is kept for frames drawn at random among all that did not leave; 0: off",
    )
    bootstrap: int = Field(
        default=16,
        ge=0,
        description="a camera's first frames that leave regardless of their loss, spread over a window",
    )


class Action(Enum):
    """What becomes of a frame: leave now, wait for the window's end, or stay."""

    FORWARD = "forward"
    HOLD = "hold"
    SKIP = "skip"


@dataclass(frozen=True)
class Decision:
    """What becomes of one frame, the reason code, and its part in the draw of audits, None for one that may leave now.

    A frame that is held as `hard` and not among the best in the end may still be drawn, by its lot.
    """

    action: Action
    reason: str
    draw: Draw | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Released:
    """A window closed: at most `frames` of those held as hard may leave, highest loss first, and then the `audits` of
    the lowest lots among all others held; drop the rest. `among` frames took part in the draw, the hard ones included.
    """

    frames: int
    audits: int = 0
    among: int = 0


@dataclass(frozen=True)
class Held:
    """A frame that waits for its window's end: its loss, or what else it is ranked by, the reason that it was held for
    (`hard` or `audit`), and its lot, None for one that did not draw.
    """

    worth: float
    reason: str
    lot: float | None


@dataclass(frozen=True)
class Settled:
    """Which of a window's held frames leave, by their indices; `probability` is that with which each of `audits` was
    drawn among the frames that do not leave as hard.
    """

    hard: list[int]
    audits: list[int]
    probability: float


def settle(released: Released, held: Sequence[Held]) -> Settled:
    """Return which of the `held` frames, in the order they came, leave at the end of their window."""
    best = sorted((i for i, one in enumerate(held) if one.reason == "hard"), key=lambda i: -held[i].worth)
    hard = best[: released.frames]
    lots = {i: one.lot for i, one in enumerate(held) if one.lot is not None}
    audits = sorted(lots.keys() - set(hard), key=lambda i: (lots[i], i))[: released.audits]
    stayed = max(released.among - len(hard), len(audits), 1)
    return Settled(hard, audits, len(audits) / stayed if audits else 1.0)


@dataclass(frozen=True)
class Waiting:
    """What waits for the end of a window: the losses of hard frames, the lots of audits, and `among` how many."""

    losses: Sequence[float] = ()
    lots: Sequence[float] = ()
    among: int = 0


NO_ONE_WAITS = Waiting()


class Selector(Protocol):
    """One camera's selector. Every method but `note_bytes` is called from one thread."""

    @property
    def threshold(self) -> float:
        """The loss at which a frame leaves at once; 0.0 while that is unknown or never happens."""

    def decide(self, loss: float, at: float, thumbnail: NDArray[np.uint8] | None = None) -> Decision:
        """Decide on the next frame.

        `at` is in seconds since the epoch; steps backwards do no harm. `thumbnail` is a small grey picture of the
        frame, `(h, w)`, without which likeness is not judged. Raises `ValueError` for a loss that is not finite.
        """

    def soon(self, frames: int) -> bool:
        """Return whether one of the next `frames` frames may be drawn as an audit, the next one included."""

    def stood(self, at: float) -> None:
        """Take a frame that the student did not look at, since the answer before stands: it counts in the draw.

        It stays; where `soon(1)`, it has to be looked at and decided on instead. `at` as for `decide`.
        """

    def close_window(self, at: float, final: bool = False) -> Released | None:
        """Close the window when its time is over, or in any case when `final` (the stream ended); else `None`.

        Call it before each `decide`, and regularly while no frames come: a window lasts until this closes it.
        """

    def note_swap(self) -> None:
        """Forget the losses seen: those of another model do not compare.

        The window closes at the next `close_window`, its budget cut to the part of it that has passed.
        """

    def allow(self, frames_per_window: int | None, pace: float = 1.0) -> None:
        """Set how many frames may leave per window, from this one on; None: as in the settings.

        By `pace` hard frames may be more, or fewer, than that leaves room for; audits are as many as at 1. Where more
        have left already than a new pace allows, it holds from the next window on: or they would take the audits' part.
        """

    def note_bytes(self, size: int) -> None:
        """Note the JPEG size of a frame that was released, 0 if it was lost. Safe from any thread."""

    @property
    def among(self) -> int:
        """How many frames of this window took part in the draw of audits so far."""


def build_selector(
    settings: SelectorSettings, rng: random.Random, spent: Spent = NOTHING, held: Waiting = NO_ONE_WAITS
) -> Selector:
    """Return a new selector of the policy that `settings` names.

    `spent` is what left before this start, `held` what still waits for a window to end.
    """
    match settings.policy:
        case "culling":
            return CullingSelector(settings, rng, spent, held)
        case "random":
            return RandomSelector(settings, rng, spent)
        case "interval":
            return IntervalSelector(settings, spent)
        case "cloud-only":
            return CloudOnlySelector(settings, spent)
        case "edge-only":
            return EdgeOnlySelector(settings, spent)


class _BudgetedSelector(ABC):
    """What all policies share: a budget that is spent window by window."""

    def __init__(self, settings: SelectorSettings, spent: Spent) -> None:
        self.threshold = 0.0
        self._frames_per_window = UNLIMITED if settings.policy == "cloud-only" else settings.frames_per_window
        self._budget = Budget(
            settings.window_s,
            self._frames_per_window,
            settings.frames_per_day,
            settings.bytes_per_day,
            spent,
        )
        self._whole = self._paced = self._frames_per_window  # per window, without the pace and with it
        self._next = self._whole, self._paced

    def decide(self, loss: float, at: float, thumbnail: NDArray[np.uint8] | None = None) -> Decision:
        if not math.isfinite(loss):
            raise ValueError(f"a loss must be finite, got {loss}")
        self._budget.advance(at)
        decision = self._decide(loss, thumbnail)
        if decision.action is Action.FORWARD:
            self._budget.spend()
        return decision

    def soon(self, frames: int) -> bool:
        return False

    def stood(self, at: float) -> None:
        self._budget.advance(at)

    def close_window(self, at: float, final: bool = False) -> Released | None:
        self._budget.advance(at)
        if not (self._budget.over or final):
            return None
        return self._close()

    def note_swap(self) -> None:  # noqa: B027 (the baselines learn nothing, so they have nothing to forget)
        pass

    def allow(self, frames_per_window: int | None, pace: float = 1.0) -> None:
        whole = frames_per_window or self._frames_per_window
        audits = self._audits_of(whole)
        hard = max(1, round((whole - audits) * pace))
        self._next = whole, audits + hard
        if whole != self._whole or self._budget.used <= hard:
            self._take_pace()

    def note_bytes(self, size: int) -> None:
        self._budget.note_bytes(size)

    @property
    def among(self) -> int:
        return 0

    @abstractmethod
    def _decide(self, loss: float, thumbnail: NDArray[np.uint8] | None) -> Decision: ...

    def _audits_of(self, limit: float) -> int:
        """Return how many of the frames that may leave at pace 1 are kept for audits."""
        return 0

    def _take_pace(self) -> None:
        self._whole, self._paced = self._next
        self._budget.allow(self._paced)

    def _close(self) -> Released:
        self._open_next()
        return Released(0)

    def _open_next(self) -> None:
        self._budget.close()
        if self._next != (self._whole, self._paced):
            self._take_pace()


class CullingSelector(_BudgetedSelector):
    """The hardest frames of each window, within the budget: see the module."""

    def __init__(self, settings: SelectorSettings, rng: random.Random, spent: Spent, held: Waiting) -> None:
        super().__init__(settings, spent)
        self._settings = settings
        self._tail = Tail(settings.window_s, depth=2 * settings.frames_per_window)
        self._reservoir = Reservoir(rng, held.lots, held.among)
        self._kept = Kept(settings.spacing_s, settings.duplicate_change)
        self._held = sorted(held.losses)
        self._eager = 0
        self._bootstrap_left = settings.bootstrap
        self._bootstrap_due = -math.inf
        self._swapped = False

    def allow(self, frames_per_window: int | None, pace: float = 1.0) -> None:
        super().allow(frames_per_window, pace)
        self._tail.deepen(2 * self._next[1])

    def note_swap(self) -> None:
        self._tail.forget()
        self.threshold = 0.0
        self._swapped = True

    @property
    def among(self) -> int:
        return self._reservoir.among

    def soon(self, frames: int) -> bool:
        self._reservoir.begin(self._audits)
        return self._reservoir.soon(frames)

    def stood(self, at: float) -> None:
        super().stood(at)
        self._reservoir.begin(self._audits)
        self._reservoir.draw()

    def close_window(self, at: float, final: bool = False) -> Released | None:
        return super().close_window(at, final or self._swapped)

    def _decide(self, loss: float, thumbnail: NDArray[np.uint8] | None) -> Decision:
        self._reservoir.begin(self._audits)
        decision = self._bootstrap() or self._hard(loss, thumbnail)
        if decision.action is not Action.SKIP:
            self._keep(decision, loss, thumbnail)
        return decision if decision.action is Action.FORWARD else self._draw(decision)

    def _bootstrap(self) -> Decision | None:
        now = self._budget.now
        if not self._bootstrap_left or now < self._bootstrap_due or not self._room:
            return None
        self._bootstrap_left -= 1
        self._bootstrap_due = now + self._settings.window_s / self._settings.bootstrap
        return Decision(Action.FORWARD, "bootstrap")

    def _hard(self, loss: float, thumbnail: NDArray[np.uint8] | None) -> Decision:
        level = self._tail.level(self._eager_target, self._budget.elapsed)
        self.threshold = level if math.isfinite(level) else 0.0
        if loss <= 0.0:
            return Decision(Action.SKIP, "empty")
        now, room = self._budget.now, self._room
        # Frames that spacing bars are left out: the threshold must be met by frames that can leave.
        if not self._kept.too_soon(now):
            self._tail.add(loss)
        if not room:
            return Decision(Action.SKIP, "budget")
        if loss >= level and self._eager < self._eager_target:
            action = Action.FORWARD
        elif len(self._held) < room or loss > self._held[-room]:
            action = Action.HOLD
        else:
            return Decision(Action.SKIP, "below-threshold")
        if self._kept.too_soon(now, leaves=action is Action.FORWARD):
            return Decision(Action.SKIP, "spacing")
        if self._kept.looks_like(thumbnail):
            return Decision(Action.SKIP, "duplicate")
        return Decision(action, "hard")

    def _draw(self, decision: Decision) -> Decision:
        """Let a frame that stays, or waits as hard, draw its lot; only one that stays takes a place."""
        draw = self._reservoir.draw()
        if decision.action is Action.HOLD:
            return replace(decision, draw=draw)
        entered = self._reservoir.enter(draw)
        return replace(decision, draw=draw) if entered is None else Decision(Action.HOLD, "audit", entered)

    def _keep(self, decision: Decision, loss: float, thumbnail: NDArray[np.uint8] | None) -> None:
        if decision.action is Action.HOLD:
            insort(self._held, loss)
            del self._held[: -self._room]
        self._eager += decision.reason == "hard" and decision.action is Action.FORWARD
        self._kept.add(self._budget.now, thumbnail, leaves=decision.action is Action.FORWARD)

    def _close(self) -> Released:
        if self._swapped:
            self._budget.cut()
        frames = min(len(self._held), self._room)
        among = self._reservoir.among
        audits = max(0, min(self._reserved, self._budget.room, among - frames))
        self._budget.spend(frames + audits)
        self._tail.roll(self._budget.elapsed)
        self._reservoir.close()
        self._open_next()
        self._held.clear()
        self._eager = 0
        self._swapped = False
        return Released(frames, audits, among)

    @property
    def _room(self) -> int:
        """How many frames may still leave for any other reason than being drawn."""
        return max(0, self._budget.room - self._reserved)

    @property
    def _reserved(self) -> int:
        """How many frames of this window audits may be."""
        return self._audits if self._reservoir.size is None else min(self._reservoir.size, self._audits)

    @property
    def _audits(self) -> int:
        limit = self._budget.limit
        if limit <= 1:
            return 0
        # Where the day leaves less, or a swap cut the window, audits have their part of what is left.
        return self._audits_of(self._whole if limit == self._paced else limit * self._whole / self._paced)

    def _audits_of(self, limit: float) -> int:
        share = self._settings.audit_share
        return max(1, round(share * limit)) if share and limit > 1 else 0

    @property
    def _eager_target(self) -> int:
        return math.floor(self._settings.eager_share * (self._budget.limit - self._audits))


class RandomSelector(_BudgetedSelector):
    """Baseline: each frame of a window with the same chance, as many as the budget allows."""

    def __init__(self, settings: SelectorSettings, rng: random.Random, spent: Spent) -> None:
        super().__init__(settings, spent)
        self._lottery = Lottery(settings.window_s, rng)

    def _decide(self, loss: float, thumbnail: NDArray[np.uint8] | None) -> Decision:
        if not self._budget.room:
            return Decision(Action.SKIP, "budget")
        drawn = self._lottery.draw(self._budget.room, self._budget.elapsed)
        return Decision(Action.FORWARD, "hard") if drawn else Decision(Action.SKIP, "not-drawn")

    def _close(self) -> Released:
        self._lottery.roll(self._budget.elapsed)
        return super()._close()


class IntervalSelector(_BudgetedSelector):
    """Baseline: frames at even times, as many as the budget allows; the paper's intermittent sampling."""

    def __init__(self, settings: SelectorSettings, spent: Spent) -> None:
        super().__init__(settings, spent)
        self._due = -math.inf

    def _decide(self, loss: float, thumbnail: NDArray[np.uint8] | None) -> Decision:
        if not self._budget.room:
            return Decision(Action.SKIP, "budget")
        if self._budget.now < self._due:
            return Decision(Action.SKIP, "not-due")
        step, now = self._budget.window_s / self._budget.limit, self._budget.now
        self._due = self._due + step if now - self._due < step else now + step
        return Decision(Action.FORWARD, "hard")


class CloudOnlySelector(_BudgetedSelector):
    """Baseline: every frame within the daily limits."""

    def _decide(self, loss: float, thumbnail: NDArray[np.uint8] | None) -> Decision:
        return Decision(Action.FORWARD, "hard") if self._budget.room else Decision(Action.SKIP, "budget")


class EdgeOnlySelector(_BudgetedSelector):
    """Baseline: no frame ever leaves."""

    def _decide(self, loss: float, thumbnail: NDArray[np.uint8] | None) -> Decision:
        return Decision(Action.SKIP, "edge-only")
