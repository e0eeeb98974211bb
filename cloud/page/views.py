"""What the page and the command line show, read from the index when it is asked for.

One row per camera and one per round; and of one camera its day, its hard frames and its models.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import inf, nextafter
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from culling.cloud.bill.account import statements
from culling.cloud.control.classes import missing
from culling.cloud.control.said import Said
from culling.cloud.control.steering.accuracy import falls, read_measured
from culling.cloud.control.steering.schedule import camera_stats, expect
from culling.cloud.evaluation.ignored import compare_on, outside
from culling.cloud.evaluation.precision import STUDENT_FLOOR, hardness
from culling.cloud.labelling.state import UNWANTED
from culling.cloud.page.story import STARTED, story, verdict
from culling.cloud.page.why import why
from culling.cloud.settings import CloudSettings
from culling.cloud.store import history
from culling.cloud.store.classes.lists import ClassLists, Reading
from culling.cloud.store.desired import DesiredState, DesiredStates, Paced
from culling.cloud.store.folders import is_held
from culling.cloud.store.frames import Counts, frame_counts, stored
from culling.cloud.store.index import Index, frames, models, swaps
from culling.cloud.store.people.reviews import Reviews
from culling.cloud.store.registry import ModelFiles, Registry
from culling.cloud.store.requests import Requests
from culling.cloud.store.roster import CameraRow, Roster, state_of
from culling.cloud.store.rounds import Rounds
from culling.common.clock import DAY_S
from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.metrics import LOSS_BUCKETS, REASONS
from culling.common.process.console import counted
from culling.common.process.keeping_up import Look, keeping_up
from culling.common.wire.messages import CameraState

log = structlog.get_logger(__name__)

HOUR = 60
DAY = 24 * HOUR
NOW_S = 300.0
"""The span that a rate "now" is measured over: hard frames are too rare for less."""

Row = dict[str, Any]


def endpoint(data_dir: Path) -> str | None:
    """Return the address that a running service listens on; None while none runs, or it only starts."""
    try:
        return (data_dir / "endpoint").read_text("utf-8").strip() if is_held(data_dir) else None
    except FileNotFoundError:
        return None


def cameras(index: Index, now: float, settings: CloudSettings) -> list[Row]:
    """Return one row per camera, as `culling cloud status` shows it: a `camera_row`, and how long it has been silent.

    `silent_s` is the time since it was heard of, in seconds; `forwarded` counts since its agent started; `keeping_up`
    is what `pace` returns, `round` that of `running_rounds`, `next_round` what the function of that name returns. Of
    the frames that a gate wants to judge by (`judges_wanted`, at least `judges_needed`) there are `judges`;
    `provisional` says whether the student in use is not certain to be better than the one before. `bill` is what the
    last 24 hours cost, as a `Statement` tells it, `pace` what `paced` returns, and `profile` what `profiled` does.
    """
    registry = Registry(index)
    counts, live = frame_counts(index), registry.live_ids()
    minutes = int(NOW_S // 60)
    lately = history.read(index, int(now // 60) - minutes, minutes + 1)
    desired, taught = DesiredStates(index).all(), Rounds(index).taught()
    said = Said(index, settings)
    turns, bills = running_rounds(index, said), statements(index, settings, now - DAY_S, now)
    asked, problem = Requests(index).rounds(), said.problem
    lacks = missing(settings, index, asked)
    rows = []
    for camera in Roster(index).rows():
        risen = next(iter(lately.get(camera.name, [])), None)
        wish, count = desired.get(camera.name, DesiredState()), counts.get(camera.name, Counts())
        row = camera_row(camera, count, live.get(camera.name), risen, now)
        silent_s = None if camera.heard is None else round(now - camera.heard, 1)
        forwarded = sum(camera.state.forwarded.values()) if camera.state else 0
        new = camera.name not in taught
        lacking = lacks.get(camera.name, 0)
        told = next_round(camera, count, wish, new, settings, now, camera.name in asked, problem, lacking)
        kept = pace(row["state"], risen, 60.0 * risen["minutes"] if risen else 0.0)
        wanted = settings.round.held_out
        judges = {"judges": min(count.held_out, wanted), "judges_needed": settings.gate.least, "judges_wanted": wanted}
        doubted = {"provisional": row["model"] in registry.provisional(camera.name)}
        now_and_next = {"keeping_up": kept, "round": turns.get(camera.name), "next_round": told}
        costs = {"bill": bills[camera.name].row() if camera.name in bills else None}
        costs |= {"pace": paced(camera, wish, settings), "profile": profiled(camera, wish, settings)}
        rows.append({**row, "silent_s": silent_s, "forwarded": forwarded, **now_and_next, **judges, **doubted, **costs})
    return rows


def next_round(
    camera: CameraRow,
    counts: Counts,
    desired: DesiredState,
    new: bool,
    settings: CloudSettings,
    now: float,
    asked: bool = False,
    problem: str = "",
    missing: int = 0,
) -> Row | None:
    """Return what a camera's next round waits for: `waiting` of `needed` frames, `at` about when, and `told` in words.

    `problem` is why nothing is labelled, "" where all is well, `missing` as in `camera_stats`. None when a round is
    due, and for a revoked camera, which gets none.
    """
    if camera.revoked:
        return None
    labels = settings.labelling.per_day > 0
    problem = problem if labels else UNWANTED
    stats = camera_stats(camera, counts, desired, settings.gate.least, new, asked, labels, missing)
    wait = expect(stats, now, settings.schedule)
    if wait is None:
        return None
    if problem and counts.asking:
        why = f"{replace(wait, at=None).told()}; {counts.asking} more cannot be labelled: {problem}"
        wait = replace(wait, at=None, why=why)
    at = None if wait.at is None else wait.at // 60 * 60  # a time to the second would change with every look
    return {"waiting": wait.waiting, "needed": wait.needed, "at": at, "told": wait.told()}


def camera_row(camera: CameraRow, counts: Counts, live: str | None, risen: Mapping[str, Any] | None, now: float) -> Row:
    """Return what the page and the command line both show of a camera.

    `rate` is forwarded / seen over the last `NOW_S`, in [0, 1], from what its counters rose by in that time (`risen`).
    It is None for a camera that is not live or of which no frame was seen: silence is not a rate of zero. Of the stored
    frames `asking` wait for the teacher, and `waiting` are labelled and wait for a round. `accuracy` is an `Accuracy`
    of the student that it runs, None as long as too few of its audits are labelled; `worse` says in words where that
    student fell. `shadow` is the `model` that runs beside it, and that in words (`told`), None without one. `outputs`
    are those of its edge that are in trouble, with what is wrong; one camera of an edge has them.
    """
    state, measured = camera.state, read_measured(camera)
    word = state_of(camera.revoked, state, camera.heard, now)
    seen = risen["seen"] if risen and word == "live" else 0
    return {
        "camera": camera.name,
        "edge": camera.edge,
        "state": word,
        "model": state.model_id if state else None,
        "live": live,
        "seen": state.seen if state else 0,
        "rate": sum(risen[reason] for reason in REASONS) / seen if risen and seen else None,
        "loss": state.loss_mean if state else None,
        "stored": counts.stored,
        "waiting": counts.waiting,
        "asking": counts.asking,
        "accuracy": None if measured is None else msgspec.to_builtins(measured.now),
        "worse": [fall.told() for fall in falls(camera)],
        "shadow": _shadow(state) if state and not camera.revoked else None,
        "outputs": dict(state.outputs) if state and word not in ("down", "revoked") else {},
    }


def _shadow(state: CameraState) -> Row | None:
    if not state.shadow:
        return None
    seen = f"on {counted(state.shadowed, 'frame')} so far" if state.shadowed else "once it is ready"
    return {"model": state.shadow, "told": f"{state.shadow} runs beside it, {seen}"}


def paced(camera: CameraRow, desired: DesiredState, settings: CloudSettings) -> Row | None:
    """Return the pace of a camera: `times` what its budget leaves for candidates, `since` when, and `told`, in words.

    None without `[pace]`, and for a revoked camera.
    """
    if not settings.pace.on or camera.revoked:
        return None
    known, since = desired.paced or Paced(), None
    if camera.state is not None and camera.state.pace is None:
        told = "as its budget: culling at its edge knows no pace, upgrade it"
    elif desired.frames_per_window is not None:
        told = "as the budget that it was given, which goes before its pace"
    elif known.times == 1.0 and not known.since:
        told = "as its budget"
    else:
        since, told = known.since, f"{known.times:g} times its budget: {known.why}"
        if camera.state is not None and camera.state.pace != desired.pace:
            told += "; its edge has still to take it"
    return {"times": desired.pace, "since": since, "told": told}


def profiled(camera: CameraRow, desired: DesiredState, settings: CloudSettings) -> Row | None:
    """Return the profile of a camera: the `share` of frames looked at by it, `since` when, and `told`, in words.

    None without `[profile]`, and for a revoked camera.
    """
    if not settings.profile.on or camera.revoked:
        return None
    known = desired.profiled
    if camera.state is not None and camera.state.profile is None:
        told = "every frame: culling at its edge knows no profile, or [difference] skips frames there already"
        return {"share": 1.0, "since": None, "told": told}
    if known is None:
        return {"share": 1.0, "since": None, "told": "every frame"}
    told = f"{known.now.told()} ({known.why})"
    if len({one.profile for one in known.hours}) > 1:
        told += "; other hours have another"
    if camera.state is not None and camera.state.profile != desired.profile:
        told += "; its edge has still to take it"
    return {"share": known.now.share, "since": known.since, "told": told}


def pace(state: str, risen: Mapping[str, Any] | None, seconds: float) -> Row | None:
    """Return how a live camera's student keeps up, from what its counters rose by in so many seconds.

    `taken` of the frames that `came`, a second, whether that is `enough`, both in words (`told`), and a `hint` at what
    to do, "" where there is nothing to. None for a camera that is not live, or of which nothing was told.
    """
    if state != "live" or risen is None:
        return None
    found = keeping_up(Look(0.0, 0, 0), Look(seconds, risen["taken"], risen["missed"]))
    if found is None:
        return None
    rates = {"taken": round(found.taken, 3), "came": round(found.came, 3)}
    return {**rates, "enough": found.enough, "told": found.rates, "hint": found.hint}


def rounds(index: Index, camera: str | None, limit: int, of: Collection[str] | None = None) -> list[Row]:
    """Return one row per round, newest first: its row, its report, how its model's swap went, and that in words.

    Of one camera, or of those in `of`; None: of all.
    """
    turns = Rounds(index).all(camera, limit, of)
    made, registry = {(turn.camera, turn.model_id) for turn in turns if turn.model_id}, Registry(index)
    swaps, live = registry.swaps(made), registry.live_ids()
    gone = {name: registry.gone(name) for name in {name for name, _ in made}}
    rows = []
    for turn in turns:
        swap = swaps.get(f"{turn.camera}/{turn.model_id}")
        newest = turn.report.get("newest_capture")
        row = {
            "id": turn.id,
            "camera": turn.camera,
            "trigger": turn.trigger,
            "state": turn.state,
            "stage": next(reversed(turn.stages), None),
            "started": turn.started,
            "finished": turn.finished,
            "reason": turn.reason,
            "model_id": turn.model_id,
            "swap": swap.outcome if swap else None,
            "swap_at": swap.at if swap else None,
            "swap_gap_ms": swap.gap_ms if swap else None,
            "model_lag_s": round(swap.at - newest, 1) if swap and newest and swap.outcome == "live" else None,
        }
        if turn.model_id:
            now = gone[turn.camera].get(turn.model_id)
            row["model_state"] = "live" if live.get(turn.camera) == turn.model_id else "gone" if now else "replaced"
            row["model_gone"] = now.told() if now else ""
        row |= turn.report
        rows.append(
            row | {"told": verdict(row), "story": story(row), "started_by": STARTED.get(turn.trigger, turn.trigger)}
        )
    return rows


def with_progress(rows: list[Row], said: Said) -> list[Row]:
    """Return rounds with `running`: what the process of a running one does now, None for every other.

    That is `stage`, `step` of `steps`, the `share` done in [0, 1], `left_s` in seconds and all of it in words (`told`).
    """
    return [row | {"running": running(said, row["id"]) if row["state"] == "running" else None} for row in rows]


def running_rounds(index: Index, said: Said) -> dict[str, Row]:
    """Return the round of each camera that has one: its `id`, what `running` says of it, and that in words (`told`)."""
    turns = Rounds(index).unfinished()
    return {turn.camera: {"id": turn.id, **(running(said, turn.id) or {"told": turn.state})} for turn in turns}


def running(said: Said, round_id: int) -> Row | None:
    """Return what the process of a round does now, as its heartbeat says; None before its first stage."""
    now = said.progress(round_id)
    if now is None or not now.stage:
        return None
    told = {"stage": now.stage, "step": now.step, "steps": now.steps, "share": now.share, "left_s": now.left_s}
    return {**told, "told": now.told()}


def camera(index: Index, name: str, now: float) -> Row:
    """Return a camera's last hour by the minute and its day by ten, its swaps, losses and drops.

    Raises InputError when there is none of that name.
    """
    found = Roster(index).require(name)
    minute = int(now // 60)
    state = found.state
    with index.read() as connection:
        query = swaps.select().where(swaps.c.camera == name).order_by(swaps.c.id.desc()).limit(50)
        told = [dict(row._mapping) for row in connection.execute(query)]
        today = (frames.c.camera == name) & (frames.c.state == "stored") & (frames.c.received >= now - 86_400)
        by_day = connection.execute(sa.select(sa.func.sum(frames.c.bytes)).where(today)).scalar()
    return {
        "camera": name,
        "edge": found.edge,
        "hour": history.read(index, minute - HOUR + 1, 1, [name]).get(name, []),
        "day": history.read(index, (minute - DAY) // 10 * 10 + 10, 10, [name]).get(name, []),
        "swaps": [{key: row[key] for key in ("model_id", "outcome", "reason", "gap_ms", "at")} for row in told],
        "buckets": LOSS_BUCKETS,
        "losses": state.losses if state else [],
        "threshold": state.threshold if state else None,
        "ranker": state.ranker if state else None,
        "dropped": dict(state.dropped) if state else {},
        "skipped": dict(state.skipped) if state else {},
        "bytes_sent": state.bytes_sent if state else None,
        "bytes_received": state.bytes_received if state else None,
        "frame_bytes_day": by_day or 0,
    }


def classes(index: Index, settings: CloudSettings, name: str) -> Row:
    """Return what a camera looks for: its `set`, whether an operator `asked` for it, and its `classes`.

    `in_force` is the list that its labels are read by, `since` when that came into force, None where there was no other
    before. `model` is the one in use, which `finds` some classes; `labelled` counts the frames with labels of that
    list; `sets` are all there are. Raises InputError when there is no camera of that name, SettingsError when it is in
    two sets.
    """
    Roster(index).require(name)
    asked = DesiredStates(index).all().get(name, DesiredState()).classes
    chosen, one = settings.set_of(name, asked)
    lists, live = ClassLists(index), Registry(index).live().get(name)
    stored = (frames.c.camera == name) & (frames.c.state == "stored") & frames.c.labels.is_not(None)
    with index.read() as connection:
        labelled = connection.execute(sa.select(sa.func.count()).select_from(frames).where(stored)).scalar_one()
    return {
        "camera": name,
        "set": chosen,
        "asked": chosen == asked,
        "classes": list(one.names),
        "in_force": list(lists.of(name)),
        "since": lists.since().get(name),
        "model": live.model_id if live else None,
        "finds": list(live.artefact.classes) if live else [],
        "labelled": labelled,
        "sets": {key: list(each.names) for key, each in settings.class_sets.items()},
    }


def gallery(
    index: Index,
    settings: CloudSettings,
    name: str,
    before: float,
    limit: int,
    reason: str | None,
    kept: bool | None,
    labelled: bool | None = None,
    culled_by: int | None = None,
) -> list[Row]:
    """Return at most `limit` stored frames of a camera that came before `before`, newest first.

    Boxes are `[x1, y1, x2, y2, score, class]` in pixels, `colours` those of the classes; `ap` is the student's against
    the teacher, None where the teacher has not looked; `why` says in words why it was hard. `kept` of a row is the
    round whose culled set it is in, `round` the one that considered it. `decision` is what a person said of it
    (`people/reviews.py`), None where nobody did: whose the teacher's boxes are. Frames may be narrowed to a reason, to
    labelled ones, to culled sets, to one.
    """
    mine = (frames.c.camera == name) & (frames.c.state == "stored") & (frames.c.received < before)
    if reason is not None:
        mine &= frames.c.reason == reason
    if kept is not None:
        mine &= frames.c.kept.is_not(None) if kept else frames.c.kept.is_(None)
    if labelled is not None:
        mine &= frames.c.labels.is_not(None) if labelled else frames.c.labels.is_(None)
    if culled_by is not None:
        mine &= frames.c.kept == culled_by
    with index.read() as connection:
        query = frames.select().where(mine).order_by(frames.c.received.desc(), frames.c.id).limit(limit)
        rows = connection.execute(query).all()
        reading = Reading(connection, rows)
    said = Reviews(index).of(name, [row.id for row in rows])
    decisions = {frame: review.decision for frame, review in said.items()}
    found = (_readable(row, reading, settings) for row in rows)
    return [told | {"decision": decisions.get(told["id"]), "why": why(told)} for told in found if told is not None]


def frame(index: Index, settings: CloudSettings, name: str) -> Row | None:
    """Return one stored frame as `gallery` does, None where there is none of that name."""
    query = sa.select(frames.c.camera, frames.c.received).where(frames.c.id == name, frames.c.state == "stored")
    with index.read() as connection:
        row = connection.execute(query).first()
    found = [] if row is None else gallery(index, settings, row.camera, nextafter(row.received, inf), 1, None, None)
    return found[0] if found and found[0]["id"] == name else None


def picture(index: Index, frame: str) -> tuple[str, str] | None:
    """Return the camera and hash of a stored frame's picture, None where there is none of that name."""
    query = sa.select(frames.c.camera, frames.c.sha256).where(frames.c.id == frame, frames.c.state == "stored")
    with index.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else (row.camera, row.sha256)


def model_list(index: Index, files: ModelFiles, name: str) -> list[Row]:
    """Return every model of a camera, newest first, how its swap went, whether the camera runs it now, and whether its
    file is kept, so that it may be published again, unless it is `gone`: then that says why, or is "". A rollback
    goes to that with `back`.
    """
    runs = next((row.state.model_id for row in Roster(index).rows() if row.name == name and row.state), None)
    columns = ("model_id", "counter", "state", "origin", "round", "created", "expires", "scale", "size", "sha256")
    query = sa.select(*(models.c[column] for column in (*columns, "parent")))
    with index.read() as connection:
        found = connection.execute(query.where(models.c.camera == name).order_by(models.c.counter.desc())).all()
    registry = Registry(index)
    gone, back = registry.gone(name), registry.fallbacks().get(name)
    told, doubted = registry.swaps([(name, row.model_id) for row in found]), registry.provisional(name)
    rows = []
    for row in found:
        swap = told.get(f"{name}/{row.model_id}")
        outcome = {"swap": swap.outcome, "gap_ms": swap.gap_ms, "reason": swap.reason} if swap else {"swap": None}
        now = {"runs": row.model_id == runs, "kept": files.keeps(row.sha256), "provisional": row.model_id in doubted}
        now["back"] = row.model_id == back
        now["gone"] = gone[row.model_id].told() if row.model_id in gone else ""
        rows.append({**row._mapping, "sha256": row.sha256[:12], **now, **outcome})
    return rows


def _readable(row: sa.Row[Any], reading: Reading, settings: CloudSettings) -> Row | None:
    """Return what a frame's row says, None for one that rotted: it must not hide the others; rounds put it aside."""
    try:
        return _frame(row, reading, settings)
    except (msgspec.MsgspecError, ProtocolError, TypeError):
        log.warning("frame_unreadable", camera=row.camera, frame=row.id)
        return None


def _frame(row: sa.Row[Any], reading: Reading, settings: CloudSettings) -> Row:
    frame, teacher = stored(row, reading), settings.teacher
    seen, classes = outside(frame, frame.detections).above(STUDENT_FLOOR), frame.classes
    shown = ("id", "captured", "received", "reason", "loss", "model_id", "width", "height", "held_out", "round", "kept")
    told: Row = {name: getattr(row, name) for name in shown}
    told |= {"bytes": row.bytes, "student": boxes_of(seen, classes), "teacher": None, "ap": None}
    told["colours"] = {name: settings.set_like(classes).colour(name) for name in classes}
    if frame.labels is not None:
        compared = compare_on(frame, seen, teacher.true_score, teacher.min_score)
        hard = hardness(compared, settings.round.labels_of_interest(classes))
        told |= {"teacher": boxes_of(compared.true, classes), "ap": round(1 - hard.value, 3), "kind": hard.kind}
    return told


def boxes_of(found: Detections, classes: Sequence[str]) -> list[list[Any]]:
    """Return detections as `[x1, y1, x2, y2, score, class]`, in pixels."""
    return [
        [*(round(float(value), 1) for value in box), round(float(score), 2), classes[int(label)]]
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]
