"""The profile of a camera: which frames its student looks at, by what its audits say that this loses (`cloud/profile`).

What is chosen follows from the index alone, as a pace does: another control goes on where this one was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from msgspec.structs import replace

from culling.cloud.archive.day import hour_of
from culling.cloud.control.steering.accuracy import DRAWN, MeasuredAccuracy
from culling.cloud.evaluation.accuracy import BLOCK_S, pooled
from culling.cloud.evaluation.ignored import compare_on
from culling.cloud.evaluation.tally import tally
from culling.cloud.profile.choose import choose
from culling.cloud.profile.score import EVERY, Audit, lacks
from culling.cloud.settings import CloudSettings, ProfileSettings
from culling.cloud.settings.profile import MOST
from culling.cloud.store.desired import DesiredState, DesiredStates, Profiled
from culling.cloud.store.frames import FrameStore, StoredFrame
from culling.cloud.store.index import Index, frames
from culling.cloud.store.people.deeds import Actor, Deed
from culling.cloud.store.roster import CameraRow, Roster
from culling.common.clock import Clock
from culling.common.metrics import Metrics

SERVICE = Actor("profile", "service")

SITE = "its site's cameras chose it most"

ECHOED = DRAWN & frames.c.echo.is_not(None)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Heard:
    """What is known of a camera's audits: those that choose, in any order, how many are new, and when the last came."""

    audits: Sequence[Audit]
    new: int
    newest: float


def decide(
    old: Profiled, heard: Heard, measured: MeasuredAccuracy | None, now: float, settings: ProfileSettings
) -> Profiled | None:
    """Return the profiles that a camera has from `now` on, seconds since the epoch; None while nothing is new."""
    watched = None if measured is None else measured.watched
    falls = watched.falls if watched is not None else ()
    if watched is not None and falls and watched.at > old.looked:  # what was spared may be why
        return _taken(old, Profiled(why=falls[0].told(), own=True, judged=heard.newest, looked=watched.at), now)
    if heard.new < settings.audits or falls:
        return None
    choice = choose(heard.audits, settings.tolerance, settings.least)
    if choice is None:
        return _waiting(old, heard, settings.least)
    new = Profiled(EVERY, choice.whole, choice.hours, choice.why, own=True, judged=heard.newest, looked=old.looked)
    return _taken(old, new, now)


def _waiting(old: Profiled, heard: Heard, least: int) -> Profiled | None:
    """Return what a camera has with what its own audits lack, where that is why; None where nothing is other."""
    why = lacks([audit.block for audit in heard.audits], least)
    if old.own or why is None or why == old.why or old.why == SITE:
        return None
    return replace(old, why=why)


def _taken(old: Profiled, new: Profiled, now: float) -> Profiled:
    """Return `new` as it is from `now` on, since when it stands; that is when it began where nothing is other."""
    same = [one.profile for one in old.hours] == [one.profile for one in new.hours] and old.own
    same = same and old.whole.profile == new.whole.profile
    return replace(new, now=new.at(hour_of(now)), since=old.since if same else now)


class Profiler:
    """Chooses for one camera after the other, and has each hour's profile told to its edge. Used from one thread."""

    def __init__(
        self, index: Index, store: FrameStore, settings: CloudSettings, metrics: Metrics, clock: Clock
    ) -> None:
        self._index = index
        self._store = store
        self._settings = settings
        self._roster = Roster(index)
        self._desired_states = DesiredStates(index)
        self._metrics = metrics
        self._clock = clock
        self._behind: set[str] = set()

    def tend(self) -> None:
        """Begin with each camera whose edge knows profiles, turn to those of the hour, and end them where unwanted."""
        desired = self._desired_states.all()
        for row in self._roster.rows():
            profiled = desired.get(row.name, DesiredState()).profiled
            if not self._settings.profile.on:
                if profiled is not None:
                    self._keep(row.name, profiled, None, "[profile] is off")
                self._show(row, None)
            elif row.revoked or not self._knows(row):
                continue
            elif profiled is None:
                self._begin(row, desired)
            else:
                turned = replace(profiled, now=profiled.at(hour_of(self._clock.now())))
                if turned != profiled:
                    self._desired_states.take_profile(row.name, turned, self._clock.now())
                self._show(row, turned)

    def judge(self, camera: str, measured: MeasuredAccuracy | None) -> None:
        """Choose a camera's profiles anew where enough more audits were labelled, or its student fell.

        Raises StorageError.
        """
        if not self._settings.profile.on:
            return
        old = self._desired_states.all().get(camera, DesiredState()).profiled
        if old is None:
            return
        new = decide(old, self._heard(camera, old), measured, self._clock.now(), self._settings.profile)
        if new is not None:
            self._keep(camera, old, new, new.why)

    def _begin(self, row: CameraRow, desired: dict[str, DesiredState]) -> None:
        """Begin with what the other cameras of the site chose most by audits of their own; of equals the dearest."""
        site, now = self._settings.grouping.of(row.edge), self._clock.now()
        others = {
            one.name for one in self._roster.rows() if not one.revoked and self._settings.grouping.of(one.edge) == site
        }
        chosen = [
            profiled.whole
            for name, wish in desired.items()
            if site and name in others and (profiled := wish.profiled) is not None and profiled.own
        ]
        times = Counter(one.profile for one in chosen)
        most = max(chosen, key=lambda one: (times[one.profile], one.share), default=EVERY)
        why = SITE if chosen else "its own audits are waited for"
        begun = Profiled(now=most, whole=most, why=why, since=now)
        self._keep(row.name, Profiled(), begun, why)
        self._show(row, begun)

    def _keep(self, camera: str, old: Profiled, new: Profiled | None, why: str) -> None:
        after, deed = EVERY if new is None else new.whole, None
        if after.profile != old.whole.profile:
            told = {"profile": after.told(), "before": old.whole.told(), "why": why}
            deed = Deed(SERVICE, "profile", camera, what=told)
            log.info("profile_changed", camera=camera, **told)
        self._desired_states.take_profile(camera, new, self._clock.now(), deed)

    def _show(self, row: CameraRow, profiled: Profiled | None) -> None:
        if not row.revoked:
            share = EVERY.share if profiled is None else profiled.now.share
            self._metrics.set("profile_looks", share, camera=row.name)

    def _knows(self, row: CameraRow) -> bool:
        """Return whether a camera's edge knows profiles, and its own settings skip no frames."""
        if row.state is None:
            return False
        if row.state.profile is None and row.name not in self._behind:
            self._behind.add(row.name)
            log.warning("profile_unknown", camera=row.name, cure="upgrade culling at its edge; switch [difference] off")
        return row.state.profile is not None

    def _heard(self, camera: str, old: Profiled) -> Heard:
        at = sa.func.coalesce(frames.c.labelled, frames.c.received)  # what a person alone labelled has no other time
        mine = (frames.c.camera == camera) & (frames.c.state == "stored") & ECHOED
        query = sa.select(sa.func.count(), sa.func.max(at)).where(mine, at > old.judged)
        with self._index.read() as connection:
            new, newest = connection.execute(query).one()
        if new < self._settings.profile.audits:  # nothing is chosen, and nothing need be read
            return Heard((), new, newest or old.judged)
        newest_ones = self._store.select(camera, ECHOED, frames.c.captured.desc(), MOST)
        return Heard(list(self._audits(newest_ones)), new, newest)

    def _audits(self, audits: Sequence[StoredFrame]) -> Iterator[Audit]:
        teacher = self._settings.teacher
        for frame in audits:
            assert frame.echo is not None, "only such audits are selected"
            assert frame.probability is not None, "only such audits are selected"
            wanted = self._settings.round.labels_of_interest(frame.classes)
            labels = range(len(frame.classes)) if wanted is None else sorted(wanted)
            tallies = [
                pooled(
                    tally(compare_on(frame, found, teacher.true_score, teacher.min_score), len(frame.classes)), labels
                )
                for found in (frame.detections, *frame.echo.found)
            ]
            block, hour = int(frame.captured // BLOCK_S), hour_of(frame.captured)
            yield Audit(block, hour, 1.0 / frame.probability, frame.echo, tallies)
