from __future__ import annotations

import gc
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.weights.classes import CLASSES
from culling.common.detections import decode
from culling.common.errors import SettingsError
from culling.edge.output import mqtt
from culling.edge.output.sink import CameraNow, DownError
from support.outputs import (
    CAMERAS,
    MOSQUITTO,
    Broker,
    Subscriber,
    Working,
    certificate,
    needs_mosquitto,
    settings,
    sink,
)
from support.site import free_port
from support.waiting import wait_until

ID = "edge-1"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    broker = Broker(tmp_path).start()
    yield broker
    broker.stop()


@pytest.fixture
def heard(broker: Broker) -> Iterator[Subscriber]:
    subscriber = Subscriber(broker)
    yield subscriber
    subscriber.close()


def publisher(broker: Broker, cameras: Any = CAMERAS, **told: Any) -> Any:
    return sink(settings("mqtt", **{"url": broker.url, "client_id": ID, **told}), cameras=cameras)


def test_records_counts_and_states_arrive_by_topic(broker: Broker, heard: Subscriber) -> None:
    working = Working(publisher(broker))
    working.offer(3)
    working.wait_for(3)
    wait_until(lambda: len(heard.of("culling/gate/detections")) == 3)
    assert [decode(told.encode()).seq for told in heard.of("culling/gate/detections")] == [0, 1, 2]
    wait_until(lambda: bool(heard.of("culling/gate/counts")))
    counts = [json.loads(told) for told in heard.of("culling/gate/counts")]
    assert counts == [{"classes": {**dict.fromkeys(CLASSES, 0), "person": 1}, "zones": {}}], "told when it changes"
    assert heard.last("culling/gate/state") == "live"
    assert heard.last("culling/gate/availability") == "online"
    assert heard.last(f"culling/agents/{ID}") == "online"
    working.close()
    wait_until(lambda: heard.last("culling/gate/availability") == "offline")  # the last word of all
    assert heard.last(f"culling/agents/{ID}") == "offline"


def test_an_agent_that_dies_leaves_its_last_will(broker: Broker, heard: Subscriber) -> None:
    opened = publisher(broker)
    opened.open()
    wait_until(lambda: heard.last(f"culling/agents/{ID}") == "online")
    opened._client.socket().shutdown(2)
    wait_until(lambda: heard.last(f"culling/agents/{ID}") == "offline")
    opened.close()


def test_a_camera_that_is_lost_is_unavailable_and_one_that_is_gone_is_forgotten(
    broker: Broker, heard: Subscriber
) -> None:
    cameras = [CameraNow("gate", "live", CLASSES), CameraNow("ramp", "live", CLASSES)]
    opened = publisher(broker, cameras)
    opened.open()
    cameras[:] = [CameraNow("gate", "connecting", CLASSES)]
    opened.tend()
    wait_until(lambda: heard.last("culling/gate/availability") == "offline")
    wait_until(lambda: heard.last("culling/ramp/availability") == "")
    assert heard.last("culling/gate/state") == "connecting"
    opened.close()


def test_home_assistant_finds_state_and_counts(broker: Broker, heard: Subscriber) -> None:
    opened = publisher(broker, discovery="homeassistant", classes=["person", "car"])
    opened.open()

    def configs_told() -> dict[str, Any]:
        return {topic: json.loads(told) for topic, told in heard.messages if topic.startswith("homeassistant/")}

    wait_until(lambda: len(configs_told()) == 5)
    configs = configs_told()
    names = {"state", "person", "car", "yard_person", "yard_car"}
    assert configs.keys() == {f"homeassistant/sensor/culling_gate/{name}/config" for name in names}
    person = configs["homeassistant/sensor/culling_gate/person/config"]
    assert person["state_topic"] == "culling/gate/counts"
    assert person["value_template"] == '{{ value_json["classes"]["person"] }}'
    assert [one["topic"] for one in person["availability"]] == [f"culling/agents/{ID}", "culling/gate/availability"]
    before = len(heard.messages)
    heard.publish("homeassistant/status", "online")
    wait_until(lambda: opened._forgotten.is_set())
    opened.tend()
    wait_until(lambda: len(heard.messages) >= before + len(configs) + 1)
    opened.close()


def test_a_broker_that_dies_is_found_again_and_only_what_did_not_fit_is_lost(broker: Broker) -> None:
    working = Working(publisher(broker, queue=100, qos=1))
    working.offer(10)
    working.wait_for(10)
    broker.stop()
    working.offer(1, first=10)
    wait_until(lambda: bool(working.outlet.problem))
    assert working.metrics.total("output_up") == 0
    working.offer(99, first=11)
    broker.start()
    subscriber = Subscriber(broker)
    wait_until(lambda: working.sent == 110)
    assert working.dropped == {}
    subscriber.close()
    working.close()


def test_a_broker_that_stalls_holds_up_nothing_but_its_own_records(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.5)
    working = Working(publisher(broker, queue=100, qos=1))
    working.offer(10)
    working.wait_for(10)
    broker.freeze()
    working.offer(500, first=10)
    wait_until(lambda: "takes nothing" in working.outlet.problem or "no answer" in working.outlet.problem)
    assert working.dropped["queue-full"] >= 200
    broker.thaw()
    sent = working.sent
    wait_until(lambda: working.sent >= sent + 100)
    working.close()


def test_a_check_leaves_an_agent_that_runs_connected_and_what_the_broker_keeps_as_it_is(
    broker: Broker, heard: Subscriber
) -> None:
    opened = publisher(broker)
    opened.open()
    wait_until(lambda: heard.last("culling/gate/availability") == "online")
    before = list(heard.messages)
    assert publisher(broker, cameras=[]).check() == broker.url
    opened.tend()
    heard.publish("culling/last", "said")
    wait_until(lambda: heard.last("culling/last") == "said")
    assert heard.messages == [*before, ("culling/last", "said")]
    opened.close()


def answer(**told: Any) -> str:
    """What `check` says, or why it fails."""
    try:
        return str(sink(settings("mqtt", **told)).check())
    except DownError as error:
        return str(error)


@needs_mosquitto
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_with_tls_and_a_password(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    making = ["mosquitto_passwd", "-b", "-c", str(passwords), "yard", "hunt/er2"]
    subprocess.run(making, check=True, capture_output=True)
    lines = ("allow_anonymous false", f"password_file {passwords}")
    tls = certificate(tmp_path)
    broker = Broker(tmp_path, lines, tls).start()
    secret = tmp_path / "secret"
    secret.write_text("hunt/er2\n")
    secret.chmod(0o600)
    url, within = (f"mqtts://{user}@127.0.0.1:{broker.port}" for user in ("yard", "yard:hunt%2Fer2"))
    here = f"mqtts://***@127.0.0.1:{broker.port}"
    try:
        assert answer(url=url, secret_file=secret, ca_file=tls.cert) == here
        assert answer(url=within, ca_file=tls.cert) == here
        assert answer(url=url, secret="wrong", ca_file=tls.cert) == f"{here}: Not authorized"
        assert "its certificate is not trusted (" in answer(url=url, secret_file=secret)
    finally:
        broker.stop()
        gc.collect()  # paho leaves the socket of a handshake that failed to the collector


def test_nobody_there_is_down() -> None:
    with pytest.raises(DownError, match=r"mqtt://127.0.0.1:\d+: Connection refused"):
        sink(settings("mqtt", url=f"mqtt://127.0.0.1:{free_port()}")).check()


def test_a_certificate_that_cannot_be_read_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"output mqtt: ca_file: .*: No such file"):
        sink(settings("mqtt", url="mqtts://broker", ca_file=tmp_path / "none.pem"))
    (tmp_path / "empty.pem").touch()
    with pytest.raises(SettingsError, match="output mqtt: ca_file: "):
        sink(settings("mqtt", url="mqtts://broker", ca_file=tmp_path / "empty.pem"))
