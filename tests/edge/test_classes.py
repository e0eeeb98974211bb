from __future__ import annotations

from pathlib import Path

from culling.edge.classes import asking_for, unfound
from culling.edge.settings import load_settings
from support.site import Site

YARD = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]


def test_every_key_that_names_classes_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.settings["camera"][0] |= {
        "ignore": [{"polygon": YARD, "classes": ["car"]}],
        "zone": [{"name": "yard", "polygon": YARD, "classes": ["dog"]}],
    }
    site.settings["output"] = [{"name": "all", "kind": "stdout", "classes": ["cup"]}]
    site.settings["confidence"] = {"interest": ["person"]}
    assert dict(asking_for(load_settings(site.write(), {}))) == {
        "camera.0.ignore.0.classes": ("car",),
        "camera.0.zone.0.classes": ("dog",),
        "output.0.classes": ("cup",),
        "confidence.interest": ("person",),
    }


def test_a_key_is_told_with_what_is_missing_and_what_there_is() -> None:
    [found] = unfound([("output.0.classes", ("cup", "car")), ("confidence.interest", ("car",))], ("person", "car"))
    assert (found.key, found.classes, found.known) == ("output.0.classes", ("cup",), ("person", "car"))
    assert str(found) == "no student here finds cup; known are car, person"


def test_while_no_student_is_known_nothing_is_missing() -> None:
    assert list(unfound([("confidence.interest", ("unicorn",))], ())) == []
