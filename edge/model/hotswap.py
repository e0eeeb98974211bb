"""How a camera gets a new model, as rules without I/O: which state follows which, and what a power cut leaves.

    offered → downloading → staged → warming ──→ switched → probation → live
       └───────────┴──────────┴─────────┴─→ rejected  └────────┴─→ rolled-back

One that is to run beside the one in use first is a shadow between warming and switched, and may be rejected there too.

Every step is recorded before it takes effect (`slot.py`), and these rules hold at any moment:

1. The next boot finds a working model: the live one, else the previous, else the one the agent was installed with, if
   any. A candidate becomes live only by passing probation.
2. A model is tried at most MAX_ATTEMPTS times; a try is counted before its bytes are run anywhere. A boot after an
   interrupted try starts the model that was proven before, and then tries again. A try that ended because of the disk
   or a stop is no verdict: it is abandoned, and the model is tried again when it is next offered.
3. A model that was rejected or rolled back is never tried again. The report of it stays in the record until it could be
   sent to the cloud.
   One that runs beside the one in use may do so for days: its tries are forgotten once it has run for long enough.
4. The counter of an accepted manifest is never forgotten, so that an older model never comes back (`manifest.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Literal

import msgspec

from culling.common.errors import ManifestError, ModelError
from culling.common.wire.manifest import Manifest
from culling.common.wire.messages import SwapReport, plain

MAX_ATTEMPTS = 3
"""A power cut or two during a try must not condemn a model; one that takes the agent down each time must be."""
GAVE_UP = "gave-up"
_KEPT = 200
"""Refused ids, reports and attempts that are kept at most, so that a record stays small however long a camera runs."""

Outcome = Literal["live", "rejected", "rolled-back"]


class State(StrEnum):
    """Where a candidate is."""

    OFFERED = "offered"
    DOWNLOADING = "downloading"
    STAGED = "staged"
    WARMING = "warming"
    SHADOW = "shadow"
    SWITCHED = "switched"
    PROBATION = "probation"
    LIVE = "live"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled-back"


NEXT: Mapping[State, frozenset[State]] = {
    State.OFFERED: frozenset({State.DOWNLOADING, State.REJECTED}),
    State.DOWNLOADING: frozenset({State.STAGED, State.REJECTED}),
    State.STAGED: frozenset({State.WARMING, State.REJECTED}),
    State.WARMING: frozenset({State.SHADOW, State.SWITCHED, State.REJECTED}),
    State.SHADOW: frozenset({State.SWITCHED, State.REJECTED}),
    State.SWITCHED: frozenset({State.PROBATION, State.ROLLED_BACK}),
    State.PROBATION: frozenset({State.LIVE, State.ROLLED_BACK}),
    State.LIVE: frozenset(),
    State.REJECTED: frozenset(),
    State.ROLLED_BACK: frozenset(),
}
"""What may follow each state."""

REPLACEABLE = frozenset({State.OFFERED, State.DOWNLOADING})
"""The states in which a candidate's file is fetched."""

GIVES_WAY = REPLACEABLE | {State.SHADOW}
"""The states in which a newer offer replaces the candidate; in the others it has to wait for the verdict."""

TAKEN_OVER = frozenset({State.SWITCHED, State.PROBATION})


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The model that is under way: to be in use, or to run beside the one in use on a `share` of the frames."""

    model_id: str
    state: State
    share: float | None = None


class SlotRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a camera remembers about its models across a power cut.

    `counter` and `sha256` are those of the newest manifest accepted; `live` and `previous` are model ids, None for the
    model the agent was installed with; `attempts` counts the tries of models without a verdict; `refused` holds the
    ids that are never tried again, oldest first; `reports` are yet to be sent.
    """

    counter: int = 0
    sha256: str | None = None
    live: str | None = None
    previous: str | None = None
    candidate: Candidate | None = None
    attempts: dict[str, int] = {}
    refused: tuple[str, ...] = ()
    reports: tuple[SwapReport, ...] = ()


def offer(record: SlotRecord, manifest: Manifest, at: float, share: float | None = None) -> SlotRecord:
    """Return `record` with the verified `manifest` as the candidate, or its counter noted if its model is live already.

    With a `share` it is to run beside the one in use on that share of the frames. An offer of the current candidate
    changes nothing but that, and nothing once it has taken over; one of a model that was refused before is reported
    again, because its sender has not learned of that. Raises ManifestError("busy") while another candidate must not be
    disturbed.
    """
    if manifest.model_id in record.refused:
        if any(report.model_id == manifest.model_id for report in record.reports):
            return record
        return _report(record, manifest.model_id, record.live, "rejected", "refused-before", manifest.camera, at, 0.0)
    candidate = record.candidate
    accepted = msgspec.structs.replace(record, counter=manifest.counter, sha256=manifest.sha256)
    if manifest.model_id == record.live:
        return accepted
    if candidate is not None and candidate.model_id == manifest.model_id:
        if candidate.state in TAKEN_OVER:
            return accepted
        return msgspec.structs.replace(accepted, candidate=msgspec.structs.replace(candidate, share=share))
    if candidate is not None and candidate.state not in GIVES_WAY:
        raise ManifestError("busy", f"model {manifest.model_id} waits for the verdict on {candidate.model_id}")
    return msgspec.structs.replace(accepted, candidate=Candidate(manifest.model_id, State.OFFERED, share))


def withdraw(record: SlotRecord, model_id: str, camera: str, at: float) -> SlotRecord:
    """Return `record` without the candidate of that name, if it is one that runs beside the one in use, or would."""
    candidate = record.candidate
    if candidate is None or candidate.model_id != model_id or shadow(record) is None:
        return record
    return conclude(record, "rejected", "withdrawn", camera, at)


def shadow(record: SlotRecord) -> str | None:
    """Return the model that runs beside the one in use, or is about to."""
    candidate = record.candidate
    if candidate is None or candidate.share is None or candidate.state in TAKEN_OVER:
        return None
    return candidate.model_id


def take_place(record: SlotRecord, alone: bool) -> SlotRecord:
    """Return `record` with its warm candidate beside the model in use, or in its place; `alone`: there is none."""
    beside = shadow(record) is not None and not alone
    return advance(record, State.SHADOW if beside else State.SWITCHED)


def settle(record: SlotRecord) -> SlotRecord:
    """Return `record` with the tries of its candidate forgotten."""
    tried = _candidate(record).model_id
    return msgspec.structs.replace(record, attempts={one: n for one, n in record.attempts.items() if one != tried})


def advance(record: SlotRecord, state: State) -> SlotRecord:
    """Return `record` with its candidate one step on. `NEXT` must allow it."""
    candidate = _candidate(record)
    assert state in NEXT[candidate.state], f"{candidate.state} → {state}"
    return msgspec.structs.replace(record, candidate=msgspec.structs.replace(candidate, state=state))


def attempt(record: SlotRecord) -> SlotRecord:
    """Return `record` with one more try of its candidate. Raises ModelError(GAVE_UP) when that has none left."""
    model_id = _candidate(record).model_id
    tries = record.attempts.get(model_id, 0) + 1
    if tries > MAX_ATTEMPTS:
        raise ModelError(GAVE_UP)
    others = [(other, count) for other, count in record.attempts.items() if other != model_id]
    return msgspec.structs.replace(record, attempts=dict([*others, (model_id, tries)][-_KEPT:]))


def abandon(record: SlotRecord) -> SlotRecord:
    """Return `record` without its candidate, which got no verdict; its tries stay counted."""
    return msgspec.structs.replace(record, candidate=None)


def conclude(
    record: SlotRecord, outcome: Outcome, reason: str, camera: str, at: float, gap_ms: float = 0.0
) -> SlotRecord:
    """Return `record` with the verdict on its candidate, and the report of it; `at` is seconds since the epoch."""
    candidate = _candidate(record)
    assert State(outcome) in NEXT[candidate.state], f"{candidate.state} → {outcome}"
    attempts = {model: tries for model, tries in record.attempts.items() if model != candidate.model_id}
    done = msgspec.structs.replace(record, candidate=None, attempts=attempts)
    if outcome == "live":
        done = msgspec.structs.replace(done, live=candidate.model_id, previous=record.live)
    else:
        previous = None if record.previous == candidate.model_id else record.previous
        refused = (*record.refused, candidate.model_id)[-_KEPT:]
        done = msgspec.structs.replace(done, previous=previous, refused=refused)
    return _report(done, candidate.model_id, record.live, outcome, reason, camera, at, gap_ms)


def wake(record: SlotRecord, camera: str, at: float) -> SlotRecord:
    """Return `record` as a boot continues it: an interrupted try starts over, unless it was the last one."""
    candidate = record.candidate
    if candidate is None or candidate.state is State.OFFERED:
        return record
    if record.attempts.get(candidate.model_id, 0) < MAX_ATTEMPTS:
        return msgspec.structs.replace(record, candidate=msgspec.structs.replace(candidate, state=State.DOWNLOADING))
    had_taken_over = State.ROLLED_BACK in NEXT[candidate.state]
    return conclude(record, "rolled-back" if had_taken_over else "rejected", GAVE_UP, camera, at)


def boot_order(record: SlotRecord) -> tuple[str | None, ...]:
    """Return the models to try at boot, best first; None, the one the agent was installed with, is always last."""
    return (*(model for model in dict.fromkeys((record.live, record.previous)) if model is not None), None)


def fall_back(record: SlotRecord, broken: Collection[str], camera: str, at: float) -> SlotRecord:
    """Return `record` after a boot that found the files of the `broken` models to differ from what was proven.

    A model that only could not be read this time is not among them: it keeps its place for the next boot.
    """
    if record.live is None or record.live not in broken:
        return msgspec.structs.replace(record, previous=None) if record.previous in broken else record
    to = next(model for model in boot_order(record) if model not in broken)
    done = msgspec.structs.replace(record, live=to, previous=None, refused=(*record.refused, record.live)[-_KEPT:])
    return _report(done, record.live, to, "rolled-back", "did-not-start", camera, at, 0.0)


def reported(record: SlotRecord, report: SwapReport) -> SlotRecord:
    """Return `record` without a report that was sent."""
    return msgspec.structs.replace(record, reports=tuple(other for other in record.reports if other != report))


def _candidate(record: SlotRecord) -> Candidate:
    assert record.candidate is not None, "there is no candidate"
    return record.candidate


def _report(
    record: SlotRecord,
    model_id: str,
    previous: str | None,
    outcome: Outcome,
    reason: str,
    camera: str,
    at: float,
    gap: float,
) -> SlotRecord:
    report = SwapReport(camera, model_id, previous, outcome, plain(reason), gap, at)
    return msgspec.structs.replace(record, reports=(*record.reports, report)[-_KEPT:])
