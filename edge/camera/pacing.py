"""Rules of time for one camera: when a file's frames are due, when a still picture is, when to reopen a lost camera.

No I/O and no clock: seconds come in, seconds go out. Stream times jump, repeat and go missing; the times computed from
them never run backwards.
"""

from __future__ import annotations

import random

JUMP_S = 10.0
"""A longer gap between two frames is a jump of the stream's clock, not a pause."""

LATE_S = 1.0
"""A file that is later than this, after a suspend or on a slow machine, resumes its pace instead of catching up."""


class Backoff:
    """Pauses between attempts, with jitter: 1 to 2 s, then 2 to 4 s, at last 30 to 60 s."""

    def __init__(self, rng: random.Random, least: float = 1.0, most: float = 60.0) -> None:
        self._rng = rng
        self._least = least
        self._most = most
        self._longest = min(2 * least, most)

    def pause(self) -> float:
        """Return the seconds to wait now, and make the next pause longer."""
        longest, self._longest = self._longest, min(2 * self._longest, self._most)
        return self._rng.uniform(longest / 2, longest)

    def reset(self) -> None:
        """Start over with the shortest pause: the last attempt succeeded."""
        self._longest = min(2 * self._least, self._most)


class Timeline:
    """How long a source has been played, across clock jumps, reconnects and repetitions of a looped file."""

    def __init__(self) -> None:
        self._pts: float | None = None
        self._played: float | None = None

    def advance(self, pts: float | None, frame_s: float) -> float:
        """Return the seconds from the first frame to this one, which the source places at `pts` seconds.

        `frame_s` is the duration of a frame, used where the source gives no time or an impossible one.
        """
        gap = pts - self._pts if pts is not None and self._pts is not None else 0.0
        self._pts = pts
        if self._played is None:
            self._played = 0.0
        else:
            self._played += gap if 0 < gap <= JUMP_S else frame_s
        return self._played


class Pace:
    """Delays the frames of a file to its own pace."""

    def __init__(self) -> None:
        self._start: float | None = None

    def delay(self, played: float, now: float) -> float:
        """Return the seconds until the frame `played` seconds into the file is due."""
        if self._start is None or now - self._start - played > LATE_S:
            self._start = now - played
        return max(0.0, self._start + played - now)


class Polling:
    """Spaces the times at which a still picture is fetched: `max_fps` a second, 0 for one."""

    def __init__(self, max_fps: float) -> None:
        self._gap = 1 / (max_fps or 1.0)
        self._due: float | None = None

    def pause(self, now: float) -> float:
        """Return the seconds to wait until the next is due; one that took too long is not made up for."""
        self._due = now + self._gap if self._due is None else max(now, self._due + self._gap)
        return self._due - now
