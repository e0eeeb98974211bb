"""What became of a round, in a few sentences: for the page and for the report of a camera."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

STARTED = {
    "manual": "somebody asked for it",
    "new-frames": "enough new frames were labelled",
    "age": "the oldest frames had waited long enough",
    "drift": "the student in use fell",
}
"""Why a round starts, by its trigger."""

Row = Mapping[str, Any]


def verdict(turn: Row) -> str:
    """Return why a round ended as it did, in a sentence; "" while it runs."""
    told = turn.get("reason") or turn.get("verdict") or ""
    if not told and turn["state"] == "published":
        return "it was certainly better than the student in use"
    return str(told)


def story(turn: Row) -> list[str]:
    """Return what a round did, a sentence each, in the order of its stages; what it did not come to is left out."""
    found = [_tried(turn), _chosen(turn), _scale(turn), _trained(turn), _judged(turn), _swapped(turn)]
    if bill := (turn.get("bill") or {}).get("told"):
        found.append(f"It cost {bill}.")
    return [line for line in found if line]


def span(seconds: float) -> str:
    """Return a time as a person reads it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _tried(turn: Row) -> str:
    return f"{told[0].upper()}{told[1:]}." if (told := (turn.get("zoo") or {}).get("told")) else ""


def _chosen(turn: Row) -> str:
    again = ((turn.get("zoo") or {}).get("outcomes") or {}).get("published")
    if not turn.get("labelled") or again:
        return ""
    earlier = f", with {turn['replayed']} of earlier rounds" if turn.get("replayed") else ""
    people = f"; a person labelled {turn['of_people']} of these" if turn.get("of_people") else ""
    return f"{turn.get('kept') or 'None'} of {turn['labelled']} labelled frames were chosen{earlier}{people}."


def _scale(turn: Row) -> str:
    if turn.get("scale") is None:
        return ""
    why = str(turn.get("scale_why") or "").partition(": ")[2]
    return f"Scale {turn['scale']:.2f}{f': {why}' if why else ''}."


def _trained(turn: Row) -> str:
    if turn.get("train_s") is None:
        return ""
    return f"Trained for {span(turn['train_s'])}{f': {ended}' if (ended := turn.get('ended')) else ''}."


def _judged(turn: Row) -> str:
    if turn.get("map_after") is None:
        return ""
    gain = turn["map_after"] - turn["map_before"]
    blocks = f" in {turn['blocks']} blocks of time" if turn.get("blocks") else ""
    least = "" if turn.get("gain_low") is None else f"; at least {turn['gain_low']:+.3f}"
    figures = f"AP50 {turn['map_before']:.3f} → {turn['map_after']:.3f} ({gain:+.3f})"
    return f"{figures} on {turn.get('frames')} held-out frames{blocks}{least}."


def _swapped(turn: Row) -> str:
    if not turn.get("model_id"):
        return ""
    model, now, gone = turn["model_id"], turn.get("model_state") == "live", turn.get("model_gone")
    became = f"; it {gone}" if gone else "" if now else "; another model is in its place now"
    if not turn.get("swap"):
        return f"{model} waits for the edge to take it." if now else f"The edge never took {model}{became}."
    lag, at = turn.get("model_lag_s"), f"{datetime.fromtimestamp(turn['swap_at']):%d %b %H:%M}"
    after = "" if lag is None else f", {span(lag)} after the last frame it learnt from"
    if turn["swap"] != "live":
        return f"{model} was {turn['swap'].replace('-', ' ')} at the edge, {at}{'' if now else became}."
    went = f"is live at the edge since {at}" if now else f"went live at the edge at {at}"
    return f"{model} {went}, with a gap of {turn['swap_gap_ms']:.0f} ms{after}{became}."
