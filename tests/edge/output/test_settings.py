from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from culling.common.config import print_config
from culling.common.errors import SettingsError
from culling.edge.output.sink import Around, build
from culling.edge.settings import load_settings
from support import outputs
from support.clock import FakeClock
from support.site import Site

KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def refused(site: Site, *told: dict[str, Any]) -> str:
    site.settings["output"] = list(told)
    with pytest.raises(SettingsError) as raised:
        load_settings(site.write(), {})
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_an_output_needs_a_kind_and_what_that_kind_needs(tmp_path: Path) -> None:
    assert outputs.settings("stdout").name == "stdout"
    assert outputs.settings("jsonl", path=tmp_path / "d.jsonl").every == "frame"
    for kind, needed in (("jsonl", "path"), ("mqtt", "url"), ("webhook", "url")):
        with pytest.raises(ValidationError, match=f"needs {needed}"):
            outputs.settings(kind)


def test_the_key_of_another_kind_is_refused_by_name(site: Site) -> None:
    assert "output.0: topic is not a key of kind = 'stdout'" in refused(site, {"kind": "stdout", "topic": "yard"})
    assert "url is not a key of kind = 'mqqt'; known kinds are jsonl, stdout, zmq, mqtt, webhook" in refused(
        site, {"kind": "mqqt", "url": "mqtt://broker"}
    )
    assert "topik is not a setting; did you mean output.topic?" in refused(site, {"kind": "stdout", "topik": "yard"})


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"kind": "mqtt", "url": "http://broker"}, "url: expected mqtt://"),
        ({"kind": "mqtt", "url": "mqtt://broker:99999"}, "url: expected mqtt://"),
        ({"kind": "mqtt", "url": "mqtt://broker", "topic": "a/#"}, "topic"),
        ({"kind": "webhook", "url": "ftp://server/x"}, "url: expected https://"),
        ({"kind": "zmq", "bind": "tcp://127.0.0.1"}, "bind"),
        ({"kind": "zmq", "readers": ["short"]}, "readers"),
        ({"kind": "zmq", "readers": [KEY]}, "CURVE takes both"),
        ({"kind": "zmq", "secret": KEY}, "CURVE takes both"),
        ({"kind": "webhook", "url": "https://s", "secret": "a", "secret_env": "B"}, "secret and secret_env are given"),
        ({"kind": "stdout", "every": "minute"}, "every"),
        ({"kind": "stdout", "score": 1.5}, "score"),
        ({"kind": "stdout", "queue": 0}, "queue"),
        ({"kind": "stdout", "cameras": ["nowhere"]}, "output stdout: cameras: there is no camera 'nowhere'"),
        ({"kind": "../x"}, "kind"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_key(site: Site, told: dict[str, Any], named: str) -> None:
    assert named in refused(site, told)


def test_two_outputs_need_two_names_and_there_is_one_standard_output(site: Site) -> None:
    assert "2 outputs are named 'stdout'" in refused(site, {"kind": "stdout"}, {"kind": "stdout"})
    assert "one standard output" in refused(site, {"kind": "stdout"}, {"kind": "stdout", "name": "again"})


def test_an_unknown_kind_is_refused_when_it_is_made_and_the_known_ones_are_named() -> None:
    with pytest.raises(SettingsError, match="no 'kafka'; known are jsonl, mqtt, stdout, webhook, zmq"):
        build(outputs.settings("kafka", options={"topic": "x"}), Around(FakeClock()))


def test_a_secret_in_the_settings_asks_for_a_private_file(site: Site) -> None:
    for output in (
        {"kind": "webhook", "url": "https://server/x", "secret": "hunter2"},
        {"kind": "mqtt", "url": "mqtts://user:hunter2@broker"},
    ):
        site.settings["output"] = [output]
        del site.settings["cloud"]["secret_key"]
        with pytest.raises(SettingsError, match="holds an output's secret but its mode is 0644") as raised:
            load_settings(site.write(mode=0o644), {})
        assert "hunter2" not in str(raised.value)
        site.settings["cloud"]["secret_key"] = site.secret


def test_no_secret_is_printed(site: Site) -> None:
    site.settings["output"] = [
        {"kind": "webhook", "url": "https://server/x?token=hunter2", "secret": "hunter3"},
        {"kind": "mqtt", "url": "mqtts://user:hunter4@broker"},
    ]
    assert "hunter" not in print_config(load_settings(site.write(), {}))


def test_a_secret_comes_from_a_private_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2\n")
    path.chmod(0o600)
    assert outputs.settings("webhook", url="https://s", secret_file=path).read_secret() == "hunter2"
    monkeypatch.setenv("HOOK_KEY", "hunter3")
    assert outputs.settings("webhook", url="https://s", secret_env="HOOK_KEY").read_secret() == "hunter3"


def test_a_secret_that_others_may_read_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    told = outputs.settings("webhook", url="https://s", secret_file=path)
    with pytest.raises(SettingsError, match=r"secret_file: .* cannot be read: No such file"):
        told.read_secret()
    path.write_text("hunter2")
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="its mode is 0640: run `chmod 600") as raised:
        told.read_secret()
    assert "hunter2" not in str(raised.value)
    path.write_text("")
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="is empty"):
        told.read_secret()
    with pytest.raises(SettingsError, match="secret_env: there is no variable HOOK_KEY"):
        outputs.settings("webhook", url="https://s", secret_env="HOOK_KEY").read_secret()


def test_what_can_be_read_on_the_way_is_exposed() -> None:
    assert outputs.settings("mqtt", url="mqtt://broker").exposed
    assert outputs.settings("webhook", url="http://10.0.0.5/x").exposed
    assert outputs.settings("zmq", bind="tcp://*:5580").exposed
    assert not outputs.settings("mqtt", url="mqtts://broker").exposed
    assert not outputs.settings("webhook", url="http://127.0.0.1:1880/x").exposed
    assert not outputs.settings("zmq").exposed
    assert not outputs.settings("zmq", bind="tcp://*:5580", readers=[KEY], secret=KEY).exposed
