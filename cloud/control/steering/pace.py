"""The pace of a camera: how many candidates it forwards, by how right its student is. After JITNet (Mullapudi et al.,
"Online Model Distillation for Efficient Video Inference", ICCV 2019), which asks its teacher half as often while the
student is right, and twice as often while it is not.

Its estimate was one labelled frame; here it is measured accuracy, and what counts is the end of its interval: an order
is given only where chance does not explain it. A fall in a part of the day counts as too low, whatever the rest is.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from msgspec.structs import replace

from culling.cloud.control.steering.accuracy import DRAWN, MeasuredAccuracy
from culling.cloud.settings import PaceSettings
from culling.cloud.store.desired import DesiredState, DesiredStates, Paced
from culling.cloud.store.index import Index, frames
from culling.cloud.store.people.deeds import Actor, Deed
from culling.cloud.store.roster import Roster
from culling.common.clock import Clock
from culling.common.metrics import Metrics

SERVICE = Actor("pace", "service")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Fresh:
    """How many audits of the student in use were labelled since its pace was judged, and when the last one came."""

    audits: int
    newest: float


def decide(paced: Paced, measured: MeasuredAccuracy, fresh: Fresh, now: float, settings: PaceSettings) -> Paced | None:
    """Return the pace that a camera has from `now` on, seconds since the epoch; None while it cannot be judged anew."""
    ap50 = measured.now.ap50
    if ap50 is None or fresh.audits < settings.audits:
        return None
    watched, told = measured.watched, f"AP50 {ap50.value:.2f} ({ap50.low:.2f} to {ap50.high:.2f}) is certainly"
    falls = watched.falls if watched is not None else ()
    looked, by, why = paced.looked, 1.0, "as the settings bound it"
    if watched is not None and falls and watched.at > looked:  # each look counts once
        looked, by, why = watched.at, 2.0, falls[0].told()
    elif ap50.high < settings.double_below:
        by, why = 2.0, f"{told} below {settings.double_below:g}"
    elif ap50.low > settings.halve_above and not falls:
        by, why = 0.5, f"{told} above {settings.halve_above:g}"
    judged = replace(paced, judged=fresh.newest, looked=looked)
    times = min(settings.most, max(settings.least, paced.times * by))
    return judged if times == paced.times else replace(judged, times=times, since=now, why=why)


class Pacer:
    """Judges one camera after the other, and keeps its pace where its edge is told. Used from one thread.

    What it decides follows from the index alone, so that another control goes on where this one was.
    """

    def __init__(self, index: Index, settings: PaceSettings, metrics: Metrics, clock: Clock) -> None:
        self._index = index
        self._roster = Roster(index)
        self._desired_states = DesiredStates(index)
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._behind: set[str] = set()

    def tend(self) -> None:
        """Show every camera's pace; where none is wanted any more, end it."""
        desired = self._desired_states.all()
        for row in self._roster.rows():
            state = desired.get(row.name, DesiredState())
            if state.paced is not None and not self._settings.on:
                self._keep(row.name, state.paced, None, "[pace] is off")
            elif not row.revoked:
                self._metrics.set("pace", state.pace, camera=row.name)

    def judge(self, camera: str, measured: MeasuredAccuracy | None) -> None:
        """Judge a camera by its student's measured accuracy, if that is known and has changed. Raises StorageError."""
        if not self._settings.on or measured is None:
            return
        desired = self._desired_states.all().get(camera, DesiredState())
        if not self._follows(camera, desired):
            return
        old = desired.paced or Paced()
        new = decide(old, measured, self._fresh(camera, measured, old), self._clock.now(), self._settings)
        if new is not None:
            self._keep(camera, old, new, new.why)

    def _keep(self, camera: str, old: Paced, new: Paced | None, why: str) -> None:
        times, deed = 1.0 if new is None else new.times, None
        if times != old.times:
            told = {"times": times, "before": old.times, "why": why}
            deed = Deed(SERVICE, "pace", camera, what=told)
            log.info("pace_changed", camera=camera, **told)
        self._desired_states.take_pace(camera, new, self._clock.now(), deed)
        self._metrics.set("pace", times, camera=camera)

    def _follows(self, camera: str, desired: DesiredState) -> bool:
        """Return whether a camera does what it was told last, so that another word is worth judging for."""
        state = next((row.state for row in self._roster.rows() if row.name == camera and not row.revoked), None)
        if state is None or desired.frames_per_window is not None:
            return False
        if state.pace is None and camera not in self._behind:
            self._behind.add(camera)
            log.warning("pace_unknown", camera=camera, cure="upgrade culling at its edge")
        return state.pace == desired.pace

    def _fresh(self, camera: str, measured: MeasuredAccuracy, paced: Paced) -> Fresh:
        at = sa.func.coalesce(frames.c.labelled, frames.c.received)  # what a person alone labelled has no other time
        new = (frames.c.camera == camera) & (frames.c.state == "stored") & (at > paced.judged)
        of_it = (frames.c.model_id == measured.model_id) & DRAWN
        query = sa.select(sa.func.count(), sa.func.max(at)).where(new, of_it)
        with self._index.read() as connection:
            count, newest = connection.execute(query).one()
        return Fresh(count, newest or paced.judged)
