"""How a camera stands, in one plain word with its cause and since when; and what is wrong with it, as alerts.

The rules are those of `deploy/prometheus/alerts.yml`, as far as the cloud can tell, under the same names: whoever is
paged finds here what rang there. A page says a thing at once, where an alert first waits whether it passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from culling.common.clock import DAY_S
from culling.common.process.console import counted

FLOOD = 0.05
"""The share of frames beyond which too many are forwarded; as in CullingForwardedRateOutOfBand."""

LATELY_S = DAY_S
"""A swap that was taken back, and a round that failed, matter for a day."""

URGENT = ("CullingCameraSilent", "CullingCameraNotLive")
"""Alerts for which somebody is woken; the others wait for the morning."""

UNSEEN = {
    "new": "its edge {edge} has not connected since it was enrolled",
    "here": "its edge {edge} is connected and has not spoken of it: is the camera in its settings?",
    "away": "its edge {edge} is not connected now, and never spoke of it",
}
"""Why a camera was never seen, by how its edge is."""

FINE = "fine"
NAMED = 3
"""Cameras that the one sentence names; more would not be read."""

Row = dict[str, Any]


def troubles(row: Mapping[str, Any], now: float) -> list[Row]:
    """Return what is wrong with a camera, by its row, the worst first.

    Each has the `alert` it rings as, `word` and `cause` for people, and `since` in epoch seconds, None where the row
    does not tell: `Watchman` fills it in.
    """
    found = [*_picture(row), *_pace(row), *_flood(row), *_outputs(row), *_model(row, now)]
    return [{"alert": alert, "word": word, "cause": cause, "since": since} for alert, word, cause, since in found]


Found = Iterable[tuple[str, str, str, float | None]]


def _picture(row: Mapping[str, Any]) -> Found:
    told = row.get("told") or ""
    if row.get("awaited"):
        return
    if row["state"] == "down" and told in ("live", "frozen", "ended", "stopped"):
        since = row.get("silent", row["heard"])
        yield "CullingCameraSilent", "lost", f"nothing is heard of its edge {row['edge']}", since
    elif row["state"] == "down":
        yield "CullingCameraNotLive", "no picture", f"its edge says: {told or 'unknown'}", None
    elif row["state"] == "frozen":
        yield "CullingCameraNotLive", "frozen", "the stream runs, and the picture does not change", None


def _pace(row: Mapping[str, Any]) -> Found:
    pace = row.get("keeping_up")
    if pace is not None and not pace["enough"]:
        yield "CullingCameraHardlyLookedAt", "too slow", f"its student looks at {pace['told']}", None


def _flood(row: Mapping[str, Any]) -> Found:
    if (row.get("rate") or 0.0) > FLOOD:
        yield "CullingForwardedRateOutOfBand", "forwards too much", f"{row['rate']:.0%} of its frames leave", None


def _outputs(row: Mapping[str, Any]) -> Found:
    told = [f"output {name}: {trouble}" for name, trouble in sorted((row.get("outputs") or {}).items())]
    if told:
        yield "CullingOutputDown", "output down", "; ".join(told), None


def _model(row: Mapping[str, Any], now: float) -> Found:
    for told in row.get("worse", ())[:1]:
        yield "CullingAccuracyFell", "got worse", told.removeprefix("worse: "), None
    swap = row.get("swap")
    if swap is not None and swap["outcome"] != "live" and now - swap["at"] < LATELY_S:
        why = f": {swap['reason']}" if swap["reason"] else ""
        yield "CullingRollback", swap["outcome"].replace("-", " "), f"{swap['model_id']}{why}", swap["at"]
    failed = row.get("failed_round")
    if failed is not None and now - failed["at"] < LATELY_S:
        yield "CullingRoundFailed", "round failed", f"round {failed['id']}: {failed['reason']}", failed["at"]


def standing(row: Mapping[str, Any], found: Sequence[Row]) -> Row:
    """Return `rank` (0 needs a person first), `word`, `cause` and `since` of a camera with these `troubles`."""
    if row["state"] == "revoked":
        return _stands(4, "revoked", "its edge may not connect any more")
    if row["state"] == "unseen":
        return _stands(2, "never seen", UNSEEN[row.get("edge_is", "new")].format(edge=row["edge"]))
    if found:
        rank = 0 if found[0]["alert"] in URGENT else 1
        return {"rank": rank, **{key: found[0].get(key) for key in ("word", "cause", "since", "longer")}}
    if row.get("awaited"):
        return _stands(3, "awaited", f"the service has just started, and its edge {row['edge']} has not greeted it yet")
    if row["state"] == "ended":
        return _stands(4, "ended", "its source has come to its end")
    if row.get("paused"):
        waits = "" if row.get("obeys") else "; its edge has not said so yet"
        return _stands(3, "paused", f"somebody paused it: it detects, and chooses no frames{waits}")
    return _stands(5, FINE, "")


def _stands(rank: int, word: str, cause: str) -> Row:
    return {"rank": rank, "word": word, "cause": cause, "since": None, "longer": None}


def sentence(rows: Sequence[Mapping[str, Any]], now: float) -> str:
    """Return how a fleet stands in one sentence: how many are fine, and those that need a person first."""
    if not rows:
        return "no camera is enrolled yet"
    fine = sum(row["standing"]["word"] == FINE for row in rows)
    needy = sorted((row for row in rows if row["standing"]["rank"] < 3), key=lambda row: row["standing"]["rank"])
    parts = [f"{fine} of {counted(len(rows), 'camera')} fine"]
    parts += [f"{row['camera']} {row['standing']['word']}{_when(row['standing'], now)}" for row in needy[:NAMED]]
    return "; ".join([*parts, *([f"and {len(needy) - NAMED} more"] if len(needy) > NAMED else [])])


def _when(standing: Mapping[str, Any], now: float) -> str:
    if standing["since"] is None:
        return ""
    if standing["word"] in ("rolled back", "rejected", "round failed"):  # it happened at a time, and is over
        return f" at {datetime.fromtimestamp(standing['since']):%H:%M}"
    seconds, longer = max(0.0, now - standing["since"]), " or longer" if standing.get("longer") else ""
    if seconds < 120:
        return f" for {seconds:.0f} s{longer}"
    return f" for {seconds / 60:.0f} min{longer}" if seconds < 7200 else f" for {seconds / 3600:.0f} h{longer}"
