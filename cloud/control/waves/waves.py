"""What the elected control does for students that are new to their cameras: it judges, promotes, withdraws, and goes on
from one wave of cameras to the next.

All that it knows is in the index: after a restart it goes on where it, or another one, stood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa
import structlog

from culling.cloud.control.publish import Publisher, SupersededError, unshadowed
from culling.cloud.control.steering.accuracy import Measurer, read_measured
from culling.cloud.control.waves.beside import Comparer, Opinion
from culling.cloud.control.waves.order import Done, Halt, Launch, next_step
from culling.cloud.settings import CloudSettings
from culling.cloud.store.desired import DesiredStates
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index, models
from culling.cloud.store.people.deeds import Actor, Deed, write
from culling.cloud.store.registry import Model, Registry
from culling.cloud.store.roster import CameraRow, Roster
from culling.cloud.store.waves.alike import alike, created_of, is_in_use, live_of, state_of, uses
from culling.cloud.store.waves.shadows import end_shadow, promote
from culling.cloud.store.waves.trials import UNDER_WAY, UNFINISHED, Rollout, Trial, Trials, TrialState, goes_on, move
from culling.common.clock import Clock
from culling.common.errors import CullingError, StorageError
from culling.common.metrics import Metrics
from culling.common.wire.messages import SwapReport

SERVICE = Actor("waves", "service")
OFF = "[waves] shadow is 0"
WITHDRAWN = "withdrawn"
"""What an edge says of a student that it was told to run no more."""
TAKE_S = 3600.0
"""Seconds for an edge to take a student that was signed anew: in an hour 128 kbit/s bring 57.6 MB."""
GONE = "its camera was removed, or its edge revoked"

log = structlog.get_logger(__name__)


class Waves:
    """Used by one thread."""

    def __init__(
        self,
        index: Index,
        store: FrameStore,
        publisher: Publisher,
        settings: CloudSettings,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._index = index
        self._publisher = publisher
        self._settings = settings.waves
        self._metrics = metrics
        self._clock = clock
        self._trials = Trials(index)
        self._registry = Registry(index)
        self._roster = Roster(index)
        self._comparer = Comparer(index, store, settings)
        self._measurer = Measurer(index, store, settings, clock)

    def tend(self) -> None:
        """Take every trial and every rollout as far as it can get now. Raises StorageError."""
        going = {one.id: one for one in self._trials.rollouts(UNFINISHED)}
        under_way = self._trials.trials(UNDER_WAY)
        if under_way or going:
            rows = {row.name: row for row in self._roster.rows() if not row.revoked}
            wishes = DesiredStates(self._index).all()
            pinned = {camera: wish.pinned for camera, wish in wishes.items() if wish.pinned is not None}
            for trial in under_way:
                halted = trial.rollout in going and going[trial.rollout].state != "running"
                self._tend(trial, rows.get(trial.camera), pinned.get(trial.camera), halted)
            for rollout in going.values():
                self._advance(rollout, rows, pinned)
        self._metrics.set("rollouts_halted", sum(one.state == "halted" for one in going.values()))

    # One camera

    def _tend(self, trial: Trial, row: CameraRow | None, pinned: str | None, halted: bool) -> None:
        if (state := self._state_of(trial)) != trial.state:
            trial = self._followed(trial)
            state = self._state_of(trial)
        if state != trial.state:
            self._note_gone(trial, state)
        elif row is None:
            self._withdraw(trial, GONE, "left")
        elif pinned is not None and state == "shadow":
            self._withdraw(trial, f"the camera was pinned to {pinned}", "left")
        elif pinned is not None:
            self._end(trial, "passed", f"the camera was pinned to {pinned}: nobody else decides")
        elif state == "live":
            self._watch(trial, row)
        elif not halted:
            self._judge(trial)

    def _followed(self, trial: Trial) -> Trial:
        """Return the trial of a live student under the id that it has since it was renewed, if it was.

        Where its edge turned it down just before, the trial stays as it is, to end with that.
        """
        if trial.state != "live" or self._refusal(trial) is not None:
            return trial  # what runs beside the live one is renewed with its trial
        with self._index.write() as connection:
            live, ids = live_of(connection, trial.camera), alike(connection, trial.camera, trial.model_id)
            newer = ids[: ids.index(trial.model_id)] if trial.model_id in ids else []
            now = self._clock.now()
            if live not in newer or not move(connection, trial, "live", now, trial.why, model_id=live):
                return trial
        log.info("trial_goes_on", camera=trial.camera, model_id=live, renewed=trial.model_id)
        return replace(trial, model_id=live)

    def _judge(self, trial: Trial) -> None:
        """Decide on a student that runs beside the live one, if that can be."""
        found = self._comparer.judge(trial, self._due(trial)) if self._settings.shadow else Opinion(False, OFF)
        if found is None:
            return
        if not found.passed:
            self._withdraw(trial, found.why)
            return
        now = self._clock.now()
        with self._index.write() as connection:
            if not (goes_on(connection, trial) and promote(connection, trial.camera, trial.model_id or "")):
                return  # it was halted, or its edge turned it down, just now
            move(connection, trial, "live", now, found.why, began=now)
            write(connection, _deed(trial, "promote", found.why), now)
        log.info("shadow_promoted", camera=trial.camera, model_id=trial.model_id, reason=found.why)

    def _watch(self, trial: Trial, row: CameraRow) -> None:
        """Decide on a student that is live: by its edge's probation, and where no shadow compared it, by its audits."""
        report = self._report(trial)
        if report is None or report.outcome != "live":
            if self._due(trial):
                self._go_back(trial, "its edge did not take it until its deadline")
        elif trial.measured is None:
            self._end(trial, "passed", f"its edge kept it; {trial.why}")
        elif (found := self._measured(trial, trial.measured, row)) is not None and found.passed:
            self._end(trial, "passed", found.why)
        elif found is not None:
            self._go_back(trial, found.why)

    def _measured(self, trial: Trial, before: float, row: CameraRow) -> Opinion | None:
        """Return whether a live student's measured accuracy is as good as the one before it had; None while open."""
        found = read_measured(row)
        known = found is not None and found.model_id == trial.model_id and found.now.ap50 is not None
        if found is None or found.now.ap50 is None or not known:
            return (
                Opinion(False, "too few of its audits were labelled until its deadline") if self._due(trial) else None
            )
        if found.now.audits < self._settings.audits and not self._due(trial):
            return None
        ap50 = found.now.ap50
        told = f"AP50 {ap50.value:.3f} ({ap50.low:.3f} to {ap50.high:.3f}, {found.now.audits} audits)"
        if ap50.high < before:
            return Opinion(False, f"{told} is certainly below that of the one before, {before:.3f} or more")
        return Opinion(True, f"{told} is not below that of the one before, {before:.3f} or more")

    def _due(self, trial: Trial) -> bool:
        """Return whether the deadline of a trial is over; a student that was signed anew meanwhile has `TAKE_S` more.

        That is so once, however often it was signed: a trial ends.
        """
        began = trial.began or 0.0
        with self._index.read() as connection:
            signed = created_of(connection, trial.camera, trial.model_id)
        extra = TAKE_S if signed is not None and signed > began else 0.0
        return self._clock.now() >= began + self._settings.deadline_s + extra

    def _note_gone(self, trial: Trial, state: str | None) -> None:
        """End the trial of a student that is not at its camera any more: by its edge, by a person, or another model."""
        refusal, newer = self._refusal(trial), self._newer(trial)
        if refusal is not None or (newer is None and state == "rejected"):
            why = "its edge turned it down" if refusal is None else f"its edge turned it down: {refusal}"
            if self._is_in_use(trial):  # under the id that it has since it was renewed
                self._go_back(trial, why)
            else:
                self._end(trial, "failed", why)
        elif state == "revoked":
            self._end(trial, "failed", f"it was gone back from, to {newer}" if newer else "its file is damaged")
        else:
            self._end(trial, "left", f"another model, {newer}, was published" if newer else "it is known no more")

    def _newer(self, trial: Trial) -> str | None:
        """Return the id of the first other student that was published for a camera after that of a trial."""
        with self._index.read() as connection:
            mine, of = alike(connection, trial.camera, trial.model_id), models.c.camera == trial.camera
            since = sa.select(models.c.counter).where(of, models.c.model_id == trial.model_id).scalar_subquery()
            query = sa.select(models.c.model_id).where(of, models.c.counter > since, models.c.model_id.not_in(mine))
            return connection.execute(query.order_by(models.c.counter)).scalar()

    def _withdraw(self, trial: Trial, why: str, state: TrialState = "failed") -> None:
        """Take a student back that is not live, or whose camera is gone."""
        now = self._clock.now()
        with self._index.write() as connection:
            end_shadow(connection, trial.camera, trial.model_id or "", "rejected")
            if move(connection, trial, state, now, why):
                write(connection, _deed(trial, "withdraw", why), now)
        self._ended(trial, state, why)

    def _go_back(self, trial: Trial, why: str) -> None:
        """End the trial of a live student that failed."""
        stays = self._put_back(trial)
        self._end(trial, "failed", f"{why}; it stays, since {stays}" if stays else why)

    def _put_back(self, trial: Trial) -> str:
        """Make the student live again that was before; return why that cannot be, "" where it is."""
        known = {model.model_id: model for model in self._registry.models(trial.camera)}
        if (before := known.get(trial.before or "")) is None:
            return "there is none before it"
        try:
            self._publisher.take_back(trial.camera, trial.model_id or "", before.artefact)
        except StorageError:
            raise
        except CullingError as error:
            return str(error)
        self._metrics.count("rollbacks", camera=trial.camera, by="waves")
        return ""

    def _end(self, trial: Trial, state: TrialState, why: str) -> None:
        now = self._clock.now()
        with self._index.write() as connection:
            if move(connection, trial, state, now, why):
                write(connection, _deed(trial, "trial", why), now)
        self._ended(trial, state, why)

    def _ended(self, trial: Trial, state: TrialState, why: str) -> None:
        self._metrics.count("trials", camera=trial.camera, outcome=state)
        log.info("trial_ended", camera=trial.camera, model_id=trial.model_id, outcome=state, reason=why)

    def _state_of(self, trial: Trial) -> str | None:
        with self._index.read() as connection:
            return state_of(connection, trial.camera, trial.model_id)

    def _is_in_use(self, trial: Trial) -> bool:
        """Return whether the student of a trial is live at its camera, under whatever id."""
        with self._index.read() as connection:
            return is_in_use(connection, trial.camera, trial.model_id)

    def _report(self, trial: Trial) -> SwapReport | None:
        """Return the verdict of its edge on the student of a trial."""
        key = f"{trial.camera}/{trial.model_id}"
        return self._registry.swaps([(trial.camera, trial.model_id or "")]).get(key)

    def _refusal(self, trial: Trial) -> str | None:
        """Return why the edge of a trial turned its student down; None where it did not."""
        report = self._report(trial)
        if report is None or report.outcome == "live" or report.reason == WITHDRAWN:
            return None
        return report.reason

    # Several cameras

    def _advance(self, rollout: Rollout, rows: Mapping[str, CameraRow], pinned: Mapping[str, str]) -> None:
        mine = self._trials.trials(rollout=rollout.id)
        if rollout.state == "back":
            self._take_back(rollout, mine, pinned)
        if rollout.state != "running":
            return
        now = self._clock.now()
        match next_step(rollout, mine):
            case Halt(why=why):
                self._trials.turn(rollout.id, ("running",), "halted", SERVICE, now, why, "halt")
                log.warning("rollout_halted", rollout=rollout.id, student=rollout.name, reason=why)
            case Done(why=why):
                self._trials.turn(rollout.id, ("running",), "done", SERVICE, now, why, "finish")
                log.info("rollout_done", rollout=rollout.id, student=rollout.name, outcome=why)
            case Launch(wave=wave, trials=waiting) if waiting:
                log.info("wave_began", rollout=rollout.id, student=rollout.name, wave=wave + 1, cameras=len(waiting))
                for trial in waiting:
                    self._launch(trial, rows.get(trial.camera), pinned.get(trial.camera))

    def _launch(self, trial: Trial, row: CameraRow | None, pinned: str | None) -> None:
        """Publish the student of a trial, beside the live one where that can be."""
        if row is None or trial.artefact is None:
            self._end(trial, "left", GONE)
            return
        if pinned is not None:
            self._end(trial, "left", f"the camera is pinned to {pinned}")
            return
        with self._index.read() as connection:
            in_use = uses(connection, trial.camera, trial.artefact.sha256, trial.artefact.scale)
        if in_use is not None:
            self._end(trial, "left", f"{in_use}, which is in use, is this student already")
            return
        measured = self._measured_before(row)
        known: dict[str, str | None] = {}

        def first(connection: sa.Connection) -> None:
            if not goes_on(connection, trial):
                raise SupersededError("it was halted just now")
            known["before"] = live_of(connection, trial.camera)
            known["why"] = unshadowed(connection, trial.camera) if self._settings.shadow else OFF

        def then(connection: sa.Connection, model: Model) -> None:
            beside = model.state == "shadow"
            changes = {"model_id": model.model_id, "before": known["before"], "began": model.created}
            changes |= {"measured": None if beside else measured}
            had = "was never measured" if measured is None else f"has AP50 {measured:.3f} or more"
            why = "" if beside else f"the one before {had} (no shadow: {known['why']})"
            move(connection, trial, "shadow" if beside else "live", model.created, why, **changes)
            write(connection, Deed(SERVICE, "push", trial.camera, what=_told(trial, why)), model.created)

        try:
            beside = self._publisher.shadowed(trial.camera)
            self._publisher.publish(trial.camera, trial.artefact, "manual", None, then, first, beside)
            self._metrics.count("models_published", camera=trial.camera)
        except StorageError:
            raise
        except SupersededError:
            log.info("wave_halted", rollout=trial.rollout, camera=trial.camera)
        except CullingError as error:
            self._end(trial, "failed", str(error))

    def _measured_before(self, row: CameraRow) -> float | None:
        """Return the lower end of the AP50 of a camera's live student, under whatever id it was measured."""
        with self._index.read() as connection:
            ids = alike(connection, row.name, live_of(connection, row.name))
        latest = read_measured(row)
        if latest is not None and latest.model_id in ids and latest.now.ap50 is not None:
            return latest.now.ap50.low
        found = (self._measurer.accuracy(row.name, model_id) for model_id in ids)
        return next((one.ap50.low for one in found if one is not None and one.ap50 is not None), None)

    def _take_back(self, rollout: Rollout, trials: list[Trial], pinned: Mapping[str, str]) -> None:
        """Undo what a rollout did, as a person asked, and end it, with what keeps the student all the same, and why."""
        keeps = []
        for trial in trials:
            if trial.state in ("waiting", "shadow"):
                self._withdraw(trial, rollout.why, "back")
            elif trial.state != "back" and self._is_in_use(trial):
                wish = pinned.get(trial.camera)
                stays = f"it is pinned to {wish}" if wish is not None else self._put_back(trial)
                if stays:
                    keeps.append(f"{trial.camera} keeps it, since {stays}")
                else:
                    self._end(trial, "back", rollout.why)
        why = "; ".join([rollout.why, *keeps])
        self._trials.turn(rollout.id, ("back",), "done", SERVICE, self._clock.now(), why, "finish")
        if keeps:
            log.warning("rollback_left_out", rollout=rollout.id, student=rollout.name, reason=why)


def _deed(trial: Trial, action: str, why: str) -> Deed:
    return Deed(SERVICE, action, trial.camera, what=_told(trial, why))


def _told(trial: Trial, why: str) -> dict[str, object]:
    told = {"model_id": trial.model_id, "rollout": trial.rollout, "why": why}
    return {name: value for name, value in told.items() if value}
