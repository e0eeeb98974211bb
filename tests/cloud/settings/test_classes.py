"""Sets of classes: which cameras they hold, and bad input, each one line that names the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from culling.cloud.settings import CloudSettings, load_settings, to_toml
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import SettingsError

SHOP: dict[str, Any] = {
    "names": ["bottle", "person", "vehicle"],
    "cameras": ["shop-*"],
    "from": {"vehicle": ["car", "bus"]},
    "colours": {"bottle": "#ff8800"},
}


def settings(tmp_path: Path, **over: Any) -> CloudSettings:
    return load_settings(
        None, {"service.data_dir": str(tmp_path), **{k.replace("__", "."): v for k, v in over.items()}}
    )


def test_without_a_set_cameras_look_for_what_the_bundled_pair_finds(tmp_path: Path) -> None:
    name, one = settings(tmp_path).set_of("gate")
    assert (name, one.names) == ("default", CLASSES)


def test_a_set_holds_cameras_by_name_or_pattern_and_an_operator_has_the_last_word(tmp_path: Path) -> None:
    told = settings(tmp_path, classes={"shop": SHOP, "yard": {"names": ["person"], "cameras": ["gate"]}})
    assert [told.set_of(camera)[0] for camera in ("shop-1", "gate", "door")] == ["shop", "yard", "default"]
    assert told.set_of("door", "shop")[0] == "shop"
    assert told.set_of("shop-1", "gone since")[0] == "shop", "a set that is there no more was never asked for"


def test_the_set_called_default_is_that_of_every_other_camera(tmp_path: Path) -> None:
    told = settings(tmp_path, classes={"default": {"names": ["cat"]}, "shop": SHOP})
    assert told.set_of("door")[1].names == told.default_classes == ("cat",)


def test_colours_are_those_of_the_set_and_others_get_one_each(tmp_path: Path) -> None:
    one = settings(tmp_path, classes={"shop": SHOP}).set_of("shop-1")[1]
    assert one.colour("bottle") == "#ff8800"
    assert one.colour("person") != one.colour("vehicle")


def test_a_process_of_a_round_reads_the_same_sets(tmp_path: Path) -> None:
    told = settings(tmp_path, classes={"shop": SHOP}, round__interest=["bottle"])
    (tmp_path / "round.toml").write_bytes(to_toml(told))
    assert load_settings(tmp_path / "round.toml", {}) == told


def test_interest_is_by_the_list_of_the_camera(tmp_path: Path) -> None:
    told = settings(tmp_path, classes={"shop": SHOP}, round__interest=["bottle", "car"]).round
    assert told.labels_of_interest(("bottle", "person")) == [0]
    assert told.labels_of_interest(CLASSES) == [CLASSES.index("car")]
    assert told.labels_of_interest(("cat",)) is None, "a set with none of them is judged by all"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("classes.shop.names", ["a", "b", "a"], "classes.shop.names: a is there twice"),
        ("classes.shop.names", ["a", ""], "classes.shop.names: name 2 is empty"),
        ("classes.shop.names", [f"c{at}" for at in range(257)], "classes.shop.names: 257 classes"),
        ("classes.shop.from", {"vehicle": ["car", "car"]}, "classes.shop: from.vehicle: 'car'"),
        ("classes.shop.from", {"vehicle": ["person"]}, "from.vehicle: 'person' means person already"),
        ("classes.shop.from", {"van": ["car"]}, "from.van is none of the names"),
        ("classes.shop.from", {"vehicle": []}, "from.vehicle has no word"),
        ("classes.shop.colours", {"bottle": "red"}, "colours.bottle is 'red'"),
        ("classes.x", {"names": ["q"], "cameras": ["shop-1"]}, "classes.x.cameras and classes.shop.cameras both hold"),
        ("classes.x", {"names": SHOP["names"]}, "classes.shop.names and classes.x.names are the same"),
        ("classes.a b", {"names": ["q"]}, "'a b' is no name of a set"),
        ("classes.shop.nams", 3, "classes.shop.nams is not a setting; did you mean"),
        ("round.interest", ["hat"], "interest: hat is a class of no set"),
    ],
)
def test_bad_input_is_one_line_that_names_the_key(tmp_path: Path, key: str, value: Any, said: str) -> None:
    given = {"service.data_dir": str(tmp_path), "classes.shop": SHOP}
    if key == "classes.shop.names":
        given = {"service.data_dir": str(tmp_path)}
    with pytest.raises(SettingsError) as refused:
        load_settings(None, given | {key: value})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_camera_that_patterns_of_two_sets_hold_is_named(tmp_path: Path) -> None:
    told = settings(tmp_path, classes={"shop": SHOP, "doors": {"names": ["cat"], "cameras": ["*-door"]}})
    with pytest.raises(SettingsError, match=r"classes\.shop\.cameras and classes\.doors\.cameras both hold"):
        told.set_of("shop-door")
