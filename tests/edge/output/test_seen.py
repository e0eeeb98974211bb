from __future__ import annotations

import msgspec
import numpy as np

from culling.common.detections import Record, ZoneCounts
from support.outputs import seen


def test_a_record_says_what_was_found_in_which_frame() -> None:
    record = seen(7, ("person", "car"), (0.91234567, 0.5)).record(np.ones(2, bool), {})

    assert (record.v, record.camera, record.seq, record.pts, record.model) == (1, "gate", 7, 0.28, "gate-1")
    assert (record.width, record.height, record.decision, record.reason) == (160, 128, "skip", "below")
    assert [(one.label, one.score, one.box) for one in record.detections] == [
        ("person", 0.9123, (0.0, 20.0, 8.0, 60.0)),
        ("car", 0.5, (10.0, 20.0, 18.0, 60.0)),
    ]
    assert record.counts() == {"person": 1, "car": 1}
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record


def test_only_what_is_wanted_is_in_it_with_its_zones_and_tracks() -> None:
    zones = {"yard": ZoneCounts({"car": 1}, {}, {}), "gate": ZoneCounts({}, {}, {})}
    inside = np.array([[True, True], [False, True]])
    found = seen(0, ("person", "car"), zones=zones, inside=inside, tracks=np.array([-1, 4]))

    [car] = found.record(np.array([False, True]), zones).detections
    [person] = found.record(np.array([True, False]), zones).detections

    assert (car.label, car.zones, car.track) == ("car", ("yard", "gate"), 4)
    assert (person.zones, person.track) == (("yard",), None)
