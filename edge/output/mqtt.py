"""`kind = "mqtt"`: records, counts and states to a broker; Home Assistant finds the cameras by itself.

    TOPIC/CAMERA/detections      every record
    TOPIC/CAMERA/counts          retained: boxes of each class, in the frame and by zone, when they change
    TOPIC/CAMERA/state           retained: connecting, live, frozen, ended, failed, stopped
    TOPIC/CAMERA/availability    retained: online while the camera is live
    TOPIC/agents/CLIENT          retained: online; offline is the last will

What is retained is kept as a table of what the broker should hold; `tend` sends what differs from what it was told.
"""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from culling.common.detections import Batch, Record
from culling.common.logs import redact
from culling.edge.output.discovery import Topics, sensors
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, CameraNow, DownError, Sink
from culling.edge.output.tls import tls_context, why

ANSWER_S = 10.0
"""A broker that takes nothing for so long counts as gone."""
LOOK_S = 0.2
"""How often it is looked whether the connection still stands while a broker is waited for."""
GOODBYE_S = 1.0
KEEPALIVE_S = 30
PORTS = {"mqtt": 1883, "mqtts": 8883}
ONLINE, OFFLINE = "online", "offline"


class Mqtt(Sink):
    """One connection, made anew after each failure; paho's own thread reads and writes it."""

    most = 1000

    def __init__(self, settings: OutputSettings, around: Around) -> None:
        super().__init__(settings, around)
        self._url = settings.address
        self._topics = Topics(settings.topic, settings.client_id or f"culling-{socket.gethostname()}-{settings.name}")
        self._password = settings.read_secret() or (unquote(self._url.password) if self._url.password else None)
        self._tls = tls_context(settings) if self._url.scheme == "mqtts" else None
        self._client: paho.Client | None = None
        self._answered = threading.Event()
        self._refusal = ""
        self._told: dict[str, str] = {}
        self._counts: dict[str, str] = {}
        self._forgotten = threading.Event()

    @property
    def where(self) -> str:
        return redact(f"{self.settings.url}")

    def open(self) -> None:
        """Connect, and say that this agent is online."""
        client = self._make_client(self._topics.client_id)
        client.will_set(self._topics.agent, OFFLINE, 1, True)
        self._connect(client)
        if self.settings.discovery:
            client.subscribe(f"{self.settings.discovery}/status")
        self.tend()

    def check(self) -> str:
        """Log in and say nothing, under another name: the broker would cut off an agent that runs."""
        try:
            self._connect(self._make_client(f"{self._topics.client_id}-check"))
        finally:
            self.close()
        return self.where

    def send(self, batch: Batch) -> None:
        """Publish each record, and counts that have changed; returns when the broker, or its socket, has them all."""
        qos, client = self.settings.qos, self._require_connection()
        topics = {record.camera: self._topics.of(record.camera, "detections") for record in batch.records}
        sent = [client.publish(topics[record.camera], self.encode(record), qos) for record in batch.records]
        if not qos:
            sent = sent[-1:]  # they leave in order, and nobody acknowledges them
        classes = {camera.name: self._classes(camera) for camera in self.around.cameras()}
        for record in {record.camera: record for record in batch.records}.values():
            self._counts[self._topics.of(record.camera, "counts")] = _counts(record, classes.get(record.camera, ()))
        sent += self._tell({**self._told, **self._counts})
        self._wait(sent)

    def tend(self) -> None:
        """Bring what the broker keeps up to date: the agent's and the cameras' states, and the sensors."""
        if self._forgotten.is_set():  # Home Assistant has started, and reads nothing but what comes from now on
            self._forgotten.clear()
            self._told = {}
        wanted, cameras = {self._topics.agent: ONLINE}, self.around.cameras()
        for camera in cameras:
            wanted[self._topics.of(camera.name, "state")] = camera.state
            wanted[self._topics.of(camera.name, "availability")] = ONLINE if camera.state == "live" else OFFLINE
            if self.settings.discovery:
                wanted.update(sensors(self.settings.discovery, self._topics, camera, self._classes(camera)))
        names = {self._topics.of(camera.name, "counts") for camera in cameras}
        self._counts = {topic: told for topic, told in self._counts.items() if topic in names}
        self._wait(self._tell({**wanted, **self._counts}))

    def close(self) -> None:
        """Say that this agent goes, if there is a connection to say so on, and disconnect."""
        client, self._client = self._client, None
        if client is None:
            return
        if client.is_connected():
            online = [topic for topic, told in self._told.items() if told == ONLINE]
            last = [client.publish(topic, OFFLINE, 1, True) for topic in online][-1:]
            with suppress(ValueError, RuntimeError):
                for one in last:
                    one.wait_for_publish(GOODBYE_S)
        client.disconnect()
        client.loop_stop()

    def _connect(self, client: paho.Client) -> None:
        """Log in. Raises DownError."""
        self._client = client
        self._answered.clear()
        self._refusal, self._told = "", {}
        try:
            client.connect(self._url.hostname or "", self._url.port or PORTS[self._url.scheme], KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise DownError(f"{self.where}: {why(error)}") from None
        client.loop_start()
        if not self._answered.wait(ANSWER_S):
            raise DownError(f"{self.where}: no answer to the log-in")
        if self._refusal:
            raise DownError(f"{self.where}: {self._refusal}")

    def _make_client(self, name: str) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311, reconnect_on_failure=False)
        client.connect_timeout = ANSWER_S
        if self._url.username or self._password:
            client.username_pw_set(unquote(self._url.username or ""), self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_message = lambda *_: self._forgotten.set()
        return client

    def _on_connect(self, client: paho.Client, _: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        self._answered.set()

    def _tell(self, wanted: dict[str, str]) -> list[paho.MQTTMessageInfo]:
        """Publish what the broker does not keep yet; an empty message takes away what it should keep no more."""
        news = {topic: told for topic, told in wanted.items() if self._told.get(topic) != told}
        news |= dict.fromkeys(self._told.keys() - wanted.keys(), "")
        self._told = wanted
        return [self._publish(topic, told.encode(), 1, True) for topic, told in news.items()]

    def _publish(self, topic: str, data: bytes, qos: int, retain: bool = False) -> paho.MQTTMessageInfo:
        return self._require_connection().publish(topic, data, qos, retain)

    def _require_connection(self) -> paho.Client:
        if self._client is None or not self._client.is_connected():
            raise DownError(f"{self.where}: the broker closed the connection")
        return self._client

    def _wait(self, sent: list[paho.MQTTMessageInfo]) -> None:
        clock = self.around.clock
        deadline = clock.monotonic() + ANSWER_S
        try:
            for one in reversed(sent):  # the last one is done last
                while not one.is_published():
                    self._require_connection()
                    if clock.monotonic() >= deadline:
                        raise DownError(f"{self.where}: the broker takes nothing")
                    one.wait_for_publish(LOOK_S)
        except (ValueError, RuntimeError) as error:
            raise DownError(f"{self.where}: {error}") from None

    def _classes(self, camera: CameraNow) -> list[str]:
        wanted = self.settings.classes
        return [name for name in camera.classes if not wanted or name in wanted]


def _counts(record: Record, classes: list[str] | tuple[()]) -> str:
    """Return the counts of a record as JSON; a class that is not seen has 0."""
    none = dict.fromkeys(classes, 0)
    zones = {name: {**none, **zone.present} for name, zone in record.zones.items()}
    return json.dumps({"classes": {**none, **record.counts()}, "zones": zones})
