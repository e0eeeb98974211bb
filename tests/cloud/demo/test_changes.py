from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from culling.cloud.demo.changes import DECIDED, Changes, divide
from culling.cloud.demo.plan import choose
from culling.cloud.demo.run import Demo, write_cloud_settings
from culling.common.errors import SettingsError
from culling.common.settings.command import settings_class
from culling.common.settings.keys import keys, sections
from support.machines import QUIET


def test_each_setting_goes_to_the_side_that_has_it() -> None:
    pairs = ["student.family=yolox", "teacher.kind=onnx", "confidence.policy=paper", "round.policy=precision"]
    found = divide(pairs)
    assert found.cloud == ("student.family=yolox", "teacher.kind=onnx", "round.policy=precision")
    assert found.edge == ("confidence.policy=paper",)
    assert found.overrides("cloud") == {"student.family": "yolox", "teacher.kind": "onnx", "round.policy": "precision"}
    assert found.flags("edge") == ["--set", "confidence.policy=paper"]
    assert divide(['output=[{"kind": "stdout"}]']).edge == ('output=[{"kind": "stdout"}]',)
    assert divide(None) == Changes()


@pytest.mark.parametrize("key", [key for decided in DECIDED.values() for key in decided])
def test_what_the_demo_decides_is_refused_with_its_reason(key: str) -> None:
    reasons = [decided[key] for decided in DECIDED.values() if key in decided]
    with pytest.raises(SettingsError) as refused:
        divide([f"{key}=1"])
    assert str(refused.value) in [f"--set {key}: {reason}" for reason in reasons]


def test_a_section_of_which_the_demo_decides_a_part_cannot_be_given_whole() -> None:
    with pytest.raises(SettingsError, match="the demo chooses it for this machine"):
        divide(['teacher={"kind": "onnx"}'])


def test_what_is_decided_are_keys_and_all_that_the_service_is_told(tmp_path: Path) -> None:
    for side, decided in DECIDED.items():
        model = settings_class(side)
        known = {key.dotted for key in keys(model)} | set(sections(model))
        assert decided.keys() <= known
    run = Demo(Path("v.mp4"), "gate", None, "real", tmp_path)
    write_cloud_settings(run, choose(QUIET, 3))
    told = tomllib.loads(run.cloud_toml.read_text())
    written = {f"{section}.{key}" for section, table in told.items() for key in table} - {"service.reserve_bytes"}
    assert written == set(DECIDED["cloud"])
