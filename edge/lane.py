"""One camera's lane through the agent: newest frame → student → score → decision → recorder, with its counters.

All of it runs in the agent's main loop and never waits. `state` and `apply` may be called from other threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import av
import numpy as np
import structlog
from numpy.typing import NDArray

from culling.common.clock import Clock
from culling.common.detections import ZoneCounts
from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.process.survival import note_failed
from culling.common.profile.looks import Looks
from culling.common.selection.confidence import POLICIES
from culling.common.selection.selector import THUMBNAIL, Action, Decision, Released, Selector
from culling.common.wire import echo
from culling.common.wire.messages import CameraState, Desired, Verdict
from culling.common.wire.profile import NONE, Profile
from culling.edge.camera.camera import Camera, Frame
from culling.edge.camera.difference import GRID, Difference, DifferenceSettings
from culling.edge.cascade.cascade import Cascade, Leaving
from culling.edge.classes import Asking, unfound
from culling.edge.model.slot import ModelSlot
from culling.edge.model.student import Student
from culling.edge.output.outlets import Outlets
from culling.edge.output.seen import Seen
from culling.edge.output.sink import CameraNow
from culling.edge.regions import Regions
from culling.edge.scoring import Score, Scorer
from culling.edge.settings import ConfidenceSettings
from culling.edge.spool.recorder import DrawSize, Recorder, Selected, WindowEnd
from culling.edge.trace import Trace, TraceLine
from culling.edge.tracks import Tracks
from culling.edge.view.frames import LiveFrames

log = structlog.get_logger(__name__)

SILENT_S = 5.0
"""When a camera has given no frame for so long, the clock ends its window instead of the next frame."""
TALLY_S = 60.0
"""How often the size of a draw is written down: an agent that is killed forgets at most so much of its window."""
LOSS_MEMORY = 300
"""Frames that the mean loss in heartbeats looks back over: long enough not to follow a single car."""
NO_MODEL = "none"
"""The model id in heartbeats while a camera has no model."""


class Lane:
    """Everything that one camera owns in the main loop.

    A `patient` lane, whose camera can wait, takes no frame while the recorder's queue is full, or as many records wait
    for the teacher's answer as may.
    """

    def __init__(
        self,
        camera: Camera,
        slot: ModelSlot,
        selector: Selector,
        confidence: ConfidenceSettings,
        recorder: Recorder,
        metrics: Metrics,
        clock: Clock,
        trace: Trace | None,
        patient: bool,
        difference: DifferenceSettings = DifferenceSettings(),  # noqa: B008 - it is frozen
        outlets: Outlets | None = None,
        regions: Regions | None = None,
        tracks: Tracks | None = None,
        live: Sequence[LiveFrames] = (),
        cascade: Cascade | None = None,
    ) -> None:
        self.name = camera.name
        self.camera = camera
        self.slot = slot
        self._selector = selector
        self._confidence = confidence
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._trace = trace
        self._patient = patient
        self._outlets = outlets
        self._regions = regions or Regions()
        self._tracks = tracks
        self._live = live
        self._cascade = cascade
        self._told: Seen | None = None
        self._zones: Mapping[str, ZoneCounts] = {}
        self._due: frozenset[str] = frozenset()
        self._hide()
        self._difference_settings = difference
        self._difference: Difference | None = None
        self._looks = Looks()
        self._student: Student | None = None
        self._scorer: Scorer | None = None
        self._last: Frame | None = None
        self._loss_mean = 0.0
        self._losses = 0
        self._desired = self._applied = Desired(self.name, False, None, None)
        self._asked_frame = 0
        self._next_tally = clock.monotonic() + TALLY_S
        metrics.announce(self.name)
        self._adopt(slot.between_frames(clock.monotonic()))

    def move(self, camera: Camera, patient: bool, regions: Regions, tracks: Tracks | None = None) -> Camera:
        """Go on with another source of the same camera's frames; return the one before, which is to be stopped."""
        self.flush()
        before, self.camera, self._patient = self.camera, camera, patient
        self._regions, self._tracks, self._zones = regions, tracks, {}
        self._hide()
        self._see_anew()
        return before

    @property
    def ready(self) -> bool:
        """Whether there is a frame to take."""
        return self.camera.latest.ready and not (self._patient and (self._recorder.full or self._all_wait))

    @property
    def holding(self) -> bool:
        """Whether a record waits for the teacher's answer."""
        return self._cascade is not None and self._cascade.holding

    @property
    def _all_wait(self) -> bool:
        return self._cascade is not None and self._cascade.full

    def take(self) -> tuple[Frame, Student] | None:
        """Return the newest frame and its student, after switching to a new model if one is ready; None without either.

        None also for a frame that shows nothing new, or that the profile spares it: the last detections stand for it.
        """
        frame = self.camera.latest.take() if self.ready else None
        if frame is None:
            return None
        self._last = frame
        student = self.slot.between_frames(self._clock.monotonic())
        if student is None:
            self.drop("no-model")
            self._show(frame, None)
            return None
        self._adopt(student)
        return None if self._nothing_new(frame) or self._spared(frame) else (frame, student)

    def inferred(self, frame: Frame, student: Student, found: Detections, seconds: float) -> None:
        """Score what the student found in `frame`, and decide what becomes of it; `seconds` is its share of a batch."""
        now, everything = self._clock.monotonic(), found
        try:
            found = self._regions.kept(everything, student.classes, frame.width, frame.height)
            score = self._score(frame, found)
        except ValueError as error:  # scores or labels out of range: the model's fault
            self.failed(ModelError(f"model {student.model_id}: {error}"))
            return
        if self._difference is not None:
            self._difference.inferred(found)
        self._looks.found(found)
        self.slot.observe(frame, everything, now)
        self._close_window(frame.captured)
        decision = self._decide(frame, score.worth)
        self._tally_by_the_minute(now)
        self._act(frame, student, found, score, decision)
        try:
            self._tell(frame, student, found, score, decision)
        except Exception as error:  # what others are told of a frame costs the frame nothing
            note_failed("outputs", self._metrics, error, camera=self.name)
        self._count(frame, student, found, score.loss, seconds, decision)

    def hear(self, verdict: Verdict) -> None:
        """Take a verdict on one of this camera's frames; what it answers leaves with `release`."""
        if self._cascade is None:
            self._metrics.count("verdicts_dropped", camera=self.name, reason="unasked")
        else:
            self._cascade.take(verdict)

    def release(self) -> None:
        """Let the records go that wait no longer."""
        if self._cascade is not None and self._cascade.holding:
            self._let_go(self._cascade.leaving())

    def flush(self) -> None:
        """Let every record go that waits, with the student's answer where the teacher's has not come."""
        if self._cascade is not None:
            self._let_go(self._cascade.flush("stopped"))

    def apply(self, desired: Desired) -> None:
        """Follow what an operator wants, from the next frame on. Safe from any thread."""
        told = {"paused": desired.paused, "frames_per_window": desired.frames_per_window, "pace": desired.pace}
        log.info("desired_state_received", camera=self.name, **told, profile=str(desired.profile or NONE))
        self._desired = desired

    def failed(self, error: ModelError) -> None:
        """Note that the student failed on the frame that was taken last."""
        log.warning("inference_failed", camera=self.name, error=str(error))
        self.drop("inference-failed")
        self.slot.failed(error, self._clock.monotonic())

    def end_window(self, final: bool = False) -> None:
        """Release the best held frames when the selector's window is over, or now if `final`."""
        if self._last is None:
            return
        # Guess the time only for a stream that pauses: a guess ahead of the next frame's own time would count time
        # twice and spend the budget too fast. A file that is played fast has its own clock.
        silent = self._clock.monotonic() - self._last.arrived
        if final or silent >= SILENT_S:
            self._close_window(self._last.captured + silent, final)

    def _close_window(self, at: float, final: bool = False) -> None:
        if (released := self._selector.close_window(at, final)) is not None:
            if self._desired.paused:  # the budget waits for the size of every frame that it released
                for _ in range(released.frames + released.audits):
                    self._selector.note_bytes(0)
                released = Released(0)
            self._recorder.end_window(WindowEnd(self.name, released, at, self._selector.note_bytes))

    @property
    def inferring(self) -> bool:
        """Whether the student in use has scored a frame."""
        return self._losses > 0

    def now(self) -> CameraNow:
        """Return what outputs tell of this camera beside its records."""
        return CameraNow(
            self.name, self.camera.state, self._student.classes if self._student else (), self._regions.names
        )

    def state(self) -> CameraState:
        """Return this camera's state for the heartbeat; counters count from the agent's start."""
        student, counts = self._student, self._metrics
        shadow, shadowed = self.slot.shadow
        return CameraState(
            camera=self.name,
            state=self.camera.state,
            model_id=student.model_id if student else NO_MODEL,
            seen=int(counts.total("frames_seen", camera=self.name)),
            inferred=int(counts.total("frames_inferred", camera=self.name)),
            forwarded=_whole(counts.by("reason", "frames_forwarded", camera=self.name)),
            spooled=int(counts.total("frames_spooled", camera=self.name)),
            acked=int(counts.total("frames_acked", camera=self.name)),
            evicted=int(counts.total("frames_evicted", camera=self.name)),
            dropped=_whole(counts.by("reason", "frames_dropped", camera=self.name)),
            threshold=self._threshold,
            loss_mean=self._loss_mean,
            skipped=_whole(counts.by("reason", "frames_skipped", camera=self.name)),
            losses=counts.spread("confidence_loss", camera=self.name),
            bytes_sent=int(counts.total("bytes_sent")),
            bytes_received=int(counts.total("bytes_received")),
            spool_bytes=int(counts.total("spool_bytes")),
            spool_frames=int(counts.total("spool_frames")),
            paused=self._desired.paused,
            frames_per_window=self._desired.frames_per_window or 0,
            pace=self._desired.pace or 1.0,
            profile=self._profile,
            frame=self._asked_frame,
            ranker=self._learned,
            shadow=shadow,
            shadowed=shadowed,
        )

    @property
    def _learned(self) -> bool:
        return self._scorer is not None and self._scorer.learned

    @property
    def _threshold(self) -> float:
        """The loss at which a frame leaves at once; 0 while a ranker decides, which predicts no losses."""
        return 0.0 if self._learned else self._selector.threshold

    def _adopt(self, student: Student | None) -> None:
        """Reset what was learned from scores if `student` is a new one: its scores do not compare."""
        if student is None or student is self._student:
            return
        if self._student is not None:
            self._selector.note_swap()
            if self._cascade is not None:
                self._cascade.forget()
        manifest, clock = student.manifest, self._clock
        if self._tracks is not None and self._student is not None and self._student.classes != student.classes:
            self.flush()
            self._tracks.forget()
        self._warn_of_strangers(student)
        self._scorer = Scorer(manifest, self._confidence)
        self._difference = Difference(self._difference_settings) if self._difference_settings.skip else None
        self._looks.forget()
        self._student, self._losses = student, 0
        self._metrics.set("ranker", float(self._learned), camera=self.name)
        self._metrics.set("model_counter", manifest.counter, camera=self.name)
        self._metrics.set("model_scale", manifest.scale, camera=self.name)
        self._metrics.follow("model_age_seconds", lambda: max(0.0, clock.now() - manifest.created), camera=self.name)

    def _warn_of_strangers(self, student: Student) -> None:
        """Warn of settings that ask for classes which the student does not find: models change, settings need not."""
        places: list[Asking] = [("confidence.interest", self._confidence.interest)]
        places += [(f"camera.{self.name}.{key}", classes) for key, classes in self._regions.asking()]
        places += self._outlets.asking(self.name) if self._outlets is not None else ()
        for one in unfound(places, student.classes):
            told = {"key": one.key, "classes": list(one.classes), "known": list(one.known)}
            log.warning("classes_unknown", camera=self.name, model_id=student.model_id, **told)

    def _nothing_new(self, frame: Frame) -> bool:
        """Return whether the frame is skipped, and counted, as unchanged; a frame that an operator wants never is."""
        if self._difference is None:
            return False
        if (grey := self._small(frame, GRID)) is None or not self._difference.unchanged(grey, frame.pts, self._wanted):
            return False
        self._close_window(frame.captured)
        self._stands(frame, "difference", "unchanged")
        return True

    @property
    def _profile(self) -> Profile | None:
        """The profile that is followed; None where the camera's own settings say which frames are skipped."""
        return None if self._difference_settings.skip else self._desired.profile or NONE

    def _spared(self, frame: Frame) -> bool:
        """Return whether the profile spares the student a frame, which is counted. One that may be drawn as an audit is
        looked at, and so is every one shortly before it, for its echo.
        """
        self._looks.follow(self._profile or NONE)
        if self._looks.profile == NONE or (shown := self._small(frame, THUMBNAIL)) is None:
            return False
        self._close_window(frame.captured)
        draws = not self._desired.paused
        wanted = self._wanted or (draws and self._selector.soon(self._looks.ahead))
        if (why := self._looks.skips(shown, frame.pts, wanted)) is None:
            return False
        if draws:
            self._selector.stood(frame.captured)
            self._tally_by_the_minute(self._clock.monotonic())
        self._stands(frame, "profile", why)
        return True

    @property
    def _wanted(self) -> bool:
        """Whether the student has to look at the next frame, whatever it shows."""
        return self.slot.on_probation or self._desired.frame not in (None, self._asked_frame)

    def _stands(self, frame: Frame, stage: str, reason: str) -> None:
        """Take that the last answer stands for a frame, which is counted."""
        self.slot.stands(self._clock.monotonic())
        self._metrics.count("frames_dropped", camera=self.name, stage=stage, reason=reason)
        self._show(frame, self._told)

    def _small(self, frame: Frame, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Return a frame's small picture, `size`; None where it cannot be read, which its inference will count."""
        try:
            return frame.input(*size)[..., 1]
        except (av.FFmpegError, ValueError):
            self._see_anew()
            return None

    def _see_anew(self) -> None:
        """Have the next frame looked at: nothing stands for it."""
        self._looks.forget()
        if self._difference is not None:
            self._difference.forget()

    def _score(self, frame: Frame, found: Detections) -> Score:
        assert self._scorer is not None, "take() adopts a student before anything is inferred"
        score = self._scorer.score(found, frame.width, frame.height)
        self._losses = min(self._losses + 1, LOSS_MEMORY)
        self._loss_mean += (score.loss - self._loss_mean) / self._losses
        return score

    def _decide(self, frame: Frame, worth: float) -> Decision:
        desired = self._desired
        if desired is not self._applied:
            self._applied = desired
            self._selector.allow(desired.frames_per_window, desired.pace or 1.0)
        if desired.frame not in (None, self._asked_frame):
            self._asked_frame = desired.frame or 0
            return Decision(Action.FORWARD, "manual")
        if desired.paused:
            return Decision(Action.SKIP, "paused")
        return self._selector.decide(worth, frame.captured, self._thumbnail(frame, worth))

    def _tally_by_the_minute(self, now: float) -> None:
        """Have the size of the draw written down from time to time, for a start after this one."""
        if now >= self._next_tally:
            self._next_tally = now + TALLY_S
            self.tally()

    def tally(self) -> None:
        """Have the size of the draw written down now; the agent is about to stop."""
        if among := self._selector.among:
            self._recorder.tally(DrawSize(self.name, among))

    def _act(self, frame: Frame, student: Student, found: Detections, score: Score, decision: Decision) -> None:
        if decision.action is Action.SKIP:
            self._metrics.count("frames_skipped", camera=self.name, reason=decision.reason)
            return
        held, left = decision.action is Action.HOLD, self._selector.note_bytes
        ignored, draw, beside = self._regions.ignored, decision.draw, partial(self.slot.look_beside, frame)
        told = echo.encode(heard) if draw and (heard := self._looks.echo()) is not None else b""
        selected = Selected(
            frame, found, score, decision.reason, student.model_id, held, left, draw, ignored, beside, told
        )
        self._recorder.offer(selected, self._patient)

    def _tell(self, frame: Frame, student: Student, found: Detections, score: Score, decision: Decision) -> None:
        if not (self._outlets or self._watched):
            self._told = None
            return
        seen = Seen(
            camera=self.name,
            seq=frame.seq,
            pts=frame.pts,
            captured=frame.captured,
            width=frame.width,
            height=frame.height,
            model=student.model_id,
            counter=student.manifest.counter,
            classes=student.classes,
            found=found,
            decision=decision,
            loss=score.loss,
        )
        if not self._holds(frame, seen, score.worth):
            self._told = self._followed(seen)
            if self._outlets and self._cascade is None:
                self._outlets.offer(self._told)
            elif self._outlets:
                self._outlets.offer_due(self._told, self._due)
        else:  # who looks sees it now; who is where follows once it is known what is in the frame
            self._told = replace(seen, zones=self._zones)
        self._show(frame, self._told)

    def _holds(self, frame: Frame, seen: Seen, worth: float) -> bool:
        """Return whether a frame's record has to wait, for an answer or for those before it."""
        if self._cascade is None:
            return False
        self._due = self._outlets.due(self.name, frame.captured) if self._outlets else frozenset()
        return self._cascade.hold(frame, seen, worth, self._due)

    def _let_go(self, leaving: Iterable[Leaving]) -> None:
        for one in leaving:
            seen = one.seen
            if (answer := one.answer) is not None:
                found = self._regions.kept(answer.found, seen.classes, seen.width, seen.height)
                seen = replace(seen, found=found, teacher=answer.teacher)
            seen = self._followed(seen)
            if self._outlets:
                self._outlets.offer_due(seen, one.to)

    def _followed(self, seen: Seen) -> Seen:
        """Return what was seen in the next frame with the numbers of its objects and who is in which zone."""
        tracks = None if self._tracks is None else self._tracks.update(seen.found, seen.pts)
        inside, self._zones = self._regions.count(seen.found, seen.classes, seen.width, seen.height, tracks, seen.pts)
        return replace(seen, zones=self._zones, inside=inside, tracks=tracks)

    @property
    def _watched(self) -> bool:
        return any(live.wanted(self.name) for live in self._live)

    def _hide(self) -> None:
        """Let nobody see what came before: under that name, and these masks, it may have been another picture."""
        self._told = None
        for live in self._live:
            live.forget(self.name)

    def _show(self, frame: Frame, seen: Seen | None) -> None:
        """Let whoever looks see a frame, with what was found in it or stands for it."""
        for live in self._live:
            live.offer(frame, seen)

    def _count(
        self, frame: Frame, student: Student, found: Detections, loss: float, seconds: float, decision: Decision
    ) -> None:
        metrics, camera = self._metrics, self.name
        metrics.count("frames_inferred", camera=camera)
        metrics.observe("inference_seconds", seconds, camera=camera)
        latency = self._clock.monotonic() - frame.arrived
        metrics.observe("detection_seconds", latency, camera=camera)
        metrics.observe("confidence_loss", loss, camera=camera)
        metrics.set("threshold", self._threshold, camera=camera)
        seen = found.above(POLICIES[self._confidence.policy].floor).labels
        for label, boxes in Counter(seen.tolist()).items():
            metrics.count("detections", boxes, camera=camera, label=student.classes[label])
        if self._trace is not None:
            verdict = f"{decision.action.value}:{decision.reason}"
            self._trace.write(TraceLine(camera, frame.seq, self._clock.now(), student.model_id, loss, verdict, latency))

    def _thumbnail(self, frame: Frame, worth: float) -> NDArray[np.uint8] | None:
        return frame.input(*THUMBNAIL)[..., 1] if worth > 0 else None

    def drop(self, reason: str) -> None:
        """Count the frame taken last as dropped."""
        self._see_anew()
        self._metrics.count("frames_dropped", camera=self.name, stage="student", reason=reason)


def _whole(counts: dict[str, float]) -> dict[str, int]:
    return {reason: int(value) for reason, value in counts.items() if value}
