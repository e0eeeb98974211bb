"""What an edge says to a cloud of version 0.2, which refuses every field that it does not know."""

from __future__ import annotations

import msgspec

from culling.common.wire.messages import FromEdge, HardFrame, Heartbeat, Hello, ModelRequest


def in_words_of_0_2(message: FromEdge) -> FromEdge:
    """Return a message without what came since; what is left out has its default, and is not sent."""
    changes: dict[str, object] = {}
    match message:
        case Hello() | Heartbeat():
            older = {
                "outputs": {},
                "through_cloud": False,
                "pace": None,
                "profile": None,
                "shadow": None,
                "shadowed": 0,
            }
            changes = {"cameras": [msgspec.structs.replace(one, **older) for one in message.cameras]}
        case HardFrame():
            changes = {"probability": None, "ignored": (), "shadow": None, "echo": b""}
        case ModelRequest():
            changes = {"bases": ()}
    if isinstance(message, Hello):
        changes["speaks"] = None
    return msgspec.structs.replace(message, **changes)
