"""Which class list each camera should have, by its set, and which have another one in force."""

from __future__ import annotations

from culling.cloud.settings import CloudSettings
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.index import Index

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
