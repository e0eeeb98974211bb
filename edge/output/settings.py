"""`[[output]]`: where detections go, which of them, and how often."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from culling.common.address import Endpoint, is_loopback
from culling.common.config import NAME, Section
from culling.common.errors import SettingsError

Name = Annotated[str, Field(pattern=NAME)]
Every = Literal["frame", "change", "1s"]
MIB = 1 << 20

COMMON = frozenset({"name", "kind", "every", "cameras", "classes", "score", "zones", "queue"})
"""Keys of every kind; those of another package's kind stand in `options`."""
KEYS: dict[str, frozenset[str]] = {
    "jsonl": frozenset({"path", "max_bytes", "max_age_s", "keep", "gzip"}),
    "stdout": frozenset(),
    "zmq": frozenset({"bind", "readers", "secret", "secret_file", "secret_env"}),
    "mqtt": frozenset(
        {"url", "topic", "client_id", "qos", "discovery", "ca_file", "cert_file", "key_file"}
        | {"secret", "secret_file", "secret_env"}
    ),
    "webhook": frozenset({"url", "batch", "batch_s", "timeout_s", "ca_file", "secret", "secret_file", "secret_env"}),
}
NEEDED = {"jsonl": "path", "mqtt": "url", "webhook": "url"}
SCHEMES = {"mqtt": ("mqtt", "mqtts"), "webhook": ("https", "http")}
SECRETS = ("secret", "secret_file", "secret_env")
_CURVE_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_TOPIC = re.compile(r"[^\s+#\x00/]+(/[^\s+#\x00/]+)*")


def _curve_key(key: str) -> str:
    if not _CURVE_KEY.fullmatch(key):
        raise ValueError("expected a CURVE key of 40 characters, as `culling edge keypair` prints it")
    return key


def _topic(topic: str) -> str:
    if not _TOPIC.fullmatch(topic):
        raise ValueError("expected words between single slashes, without spaces, + or #")
    return topic


class OutputSettings(Section):
    """`[[output]]`: one table for each place that detections go to. A key that another kind takes is refused.

    A secret is the password of an MQTT URL's user, the key that signs a webhook's requests, or an endpoint's secret
    CURVE key. It stands in one of `secret`, `secret_file` and `secret_env`.
    """

    kind: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = Field(
        description="`jsonl`, `stdout`, `zmq`, `mqtt`, `webhook`, or one that an installed package brings"
    )
    name: Name = Field("", validate_default=False, description="its name in metrics and logs; without one its kind")
    every: Every = Field(
        "frame",
        description="a record for every inferred frame; when the number of boxes of a class, in the frame or a zone, "
        "has changed; or at most one a second of each camera",
    )
    cameras: tuple[str, ...] = Field((), description="cameras whose records are written; an empty list: all")
    classes: tuple[str, ...] = Field((), description="classes whose boxes are in the records; an empty list: all")
    score: float = Field(0.5, ge=0, le=1, description="least score of a box that is in the records")
    zones: tuple[str, ...] = Field((), description="only boxes in one of these zones; an empty list: boxes anywhere")
    queue: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="records that may wait while the output is slow or down; then the oldest are dropped and counted",
    )
    path: Path | None = Field(None, description="jsonl: the file; older parts lie beside it as `FILE.000001.gz`")
    max_bytes: int = Field(64 * MIB, ge=1024, description="jsonl: size at which a new file is begun")
    max_age_s: float = Field(
        86_400.0, ge=0, description="jsonl: seconds after which a new file is begun; 0: only by size"
    )
    keep: int = Field(14, ge=0, le=100_000, description="jsonl: how many older parts are kept")
    gzip: bool = Field(True, description="jsonl: gzip the older parts")
    bind: Endpoint = Field(
        "tcp://127.0.0.1:5580", description="zmq: address to publish at; on another than this machine's own, use CURVE"
    )
    readers: tuple[Annotated[str, AfterValidator(_curve_key)], ...] = Field(
        (), description="zmq: public CURVE keys of those who may read; needs the secret key, and is needed with it"
    )
    url: str | None = Field(
        None,
        max_length=4096,
        description="mqtt: `mqtts://USER@HOST:PORT`, or `mqtt://` without TLS; webhook: `https://HOST/PATH`, or `http://`",
    )
    topic: Annotated[str, AfterValidator(_topic)] = Field(
        "culling", description="mqtt: first words of every topic, e.g. `culling/north-door/detections`"
    )
    client_id: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="mqtt: who this is to the broker; without one `culling-HOST-NAME`. Of two with the same a "
        "broker cuts off the first",
    )
    qos: Literal[0, 1] = Field(0, description="mqtt: 1 has the broker acknowledge every record")
    discovery: str = Field(
        "", description="mqtt: prefix under which Home Assistant finds the sensors, there `homeassistant`; empty: none"
    )
    ca_file: Path | None = Field(
        None, description="mqtt, webhook: certificates that are trusted, PEM; without it those of the system"
    )
    cert_file: Path | None = Field(None, description="mqtt: own certificate, PEM, for a broker that asks for one")
    key_file: Path | None = Field(None, description="mqtt: key of that certificate, where it stands in another file")
    batch: int = Field(100, ge=1, le=10_000, description="webhook: most records in a request")
    batch_s: float = Field(1.0, ge=0, le=3600, description="webhook: seconds that a record waits for others")
    timeout_s: float = Field(10.0, gt=0, le=300, description="webhook: seconds to wait for an answer")
    secret: SecretStr | None = Field(
        None, description="mqtt, webhook, zmq: the secret itself; the settings file's mode must then be 0600"
    )
    secret_file: Path | None = Field(None, description="the same: file that holds it; its mode must be 0600")
    secret_env: str | None = Field(None, description="the same: environment variable that holds it")
    options: dict[str, Any] = Field({}, description="what a kind of another package takes, as its documentation says")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, told: Any) -> Any:
        return {"name": told["kind"], **told} if isinstance(told, dict) and isinstance(told.get("kind"), str) else told

    @model_validator(mode="after")
    def _consistent(self) -> OutputSettings:
        told = {key for key in self.model_fields_set if getattr(self, key) not in (None, (), {})} - COMMON
        if wrong := sorted(told - KEYS.get(self.kind, frozenset({"options"}))):
            hint = "" if self.kind in KEYS else f"; known kinds are {', '.join(KEYS)}, another's keys stand in options"
            raise ValueError(f"{wrong[0]} is not a key of kind = {self.kind!r}{hint}")
        if (needed := NEEDED.get(self.kind)) and getattr(self, needed) is None:
            raise ValueError(f"kind = {self.kind!r} needs {needed}")
        if len(several := [key for key in SECRETS if getattr(self, key) is not None]) > 1:
            raise ValueError(f"{' and '.join(several)} are given: keep one of them")
        if self.kind in SCHEMES:
            _check_url(self.kind, self.address)
        if self.kind == "zmq" and bool(self.readers) != bool(several):
            raise ValueError("CURVE takes both: readers, and a secret key of this end")
        return self

    @property
    def address(self) -> SplitResult:
        """The parts of `url`."""
        return urlsplit(self.url or "")

    @property
    def exposed(self) -> bool:
        """Whether what it sends can be read, or its endpoint be reached, from outside this machine without a key."""
        if self.kind == "zmq":
            return not self.readers and not is_loopback(self.bind.removeprefix("tcp://").rpartition(":")[0])
        plain = self.kind in SCHEMES and self.address.scheme in ("mqtt", "http")
        return plain and not is_loopback(self.address.hostname or "")

    def read_secret(self) -> str | None:
        """Return the secret, from wherever it is; None if there is none. Raises SettingsError if it cannot be had."""
        if self.secret is not None:
            return self.secret.get_secret_value()
        if self.secret_env is not None:
            if not (found := os.environ.get(self.secret_env)):
                raise SettingsError(f"output {self.name}: secret_env: there is no variable {self.secret_env}: set it")
            return found
        return None if self.secret_file is None else self._from_file(self.secret_file)

    def _from_file(self, path: Path) -> str:
        where = f"output {self.name}: secret_file: {path}"
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            found = path.read_text().strip()
        except (OSError, ValueError) as error:
            raise SettingsError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or 'no text'}") from None
        if mode & 0o077:
            raise SettingsError(f"{where}: its mode is {mode:04o}: run `chmod 600 {path}`")
        if not found:
            raise SettingsError(f"{where}: is empty")
        return found


def _check_url(kind: str, url: SplitResult) -> None:
    try:
        known = url.scheme in SCHEMES[kind] and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        first, other = SCHEMES[kind]
        raise ValueError(f"url: expected {first}://HOST… or {other}://HOST…")
