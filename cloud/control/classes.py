"""Which class list each camera should have, by its set, which have another one in force, and what a round waits for."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from culling.cloud.settings import CloudSettings
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.index import Index, frames

Names = tuple[str, ...]


def wanted(settings: CloudSettings, index: Index) -> dict[str, tuple[str, Names]]:
    """Return the set of each camera, by name, and its classes.

    Raises SettingsError where patterns of two sets hold a camera.
    """
    desired = DesiredStates(index).all()
    found = {}
    for camera in ClassLists(index).all():
        name, one = settings.set_of(camera, desired.get(camera, DesiredState()).classes)
        found[camera] = (name, one.names)
    return found


def pending(settings: CloudSettings, index: Index) -> dict[str, Names]:
    """Return the classes of the cameras for which another list is in force. Raises as `wanted`."""
    now = ClassLists(index).all()
    return {camera: names for camera, (_, names) in wanted(settings, index).items() if names != now.get(camera)}


def missing(settings: CloudSettings, index: Index, asked: Collection[str]) -> dict[str, int]:
    """Return how many frames the pools of cameras lack whose list was changed, and of which a round was `asked`."""
    changed = [camera for camera in ClassLists(index).since() if camera in asked]
    trainable = (frames.c.state == "stored") & frames.c.labels.is_not(None) & ~frames.c.held_out
    count = sa.select(frames.c.camera, sa.func.count()).where(frames.c.camera.in_(changed), trainable)
    with index.read() as connection:
        pools: dict[str, int] = dict(connection.execute(count.group_by(frames.c.camera)).all()) if changed else {}
    return {camera: max(0, settings.schedule.first - pools.get(camera, 0)) for camera in changed}
