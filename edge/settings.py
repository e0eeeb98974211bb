"""Every setting of an edge agent: TOML, then `CULLING_SECTION__KEY` variables, then flags.

[agent]       where its state lives, how it ends            [[camera]]   one table per camera (`camera.py`)
[cloud]       whom it talks to, and with which keys         [confidence] the score of a frame
[student]     the model it was installed with               [selector]   which frames leave (`selector.py`)
[spool]       frames that wait on disk for the cloud              [metrics]    where the counters are served
[difference]  which frames need no inference (`difference.py`)    [[output]]   where detections go (`output/`)
[view]        the live picture, for people (`view/`)              [traces]     where the spans of forwarded frames go
[cascade]     which frames the teacher is asked about (`cascade/`)
"""

from __future__ import annotations

import base64
import binascii
import re
import stat
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from culling.common.address import Endpoint, Host
from culling.common.config import Section, Settings, load
from culling.common.errors import SettingsError
from culling.common.logs import redact
from culling.common.selection.confidence import POLICIES
from culling.common.selection.selector import SelectorSettings
from culling.common.traces.settings import TracesSettings
from culling.edge.camera.camera import CameraSettings
from culling.edge.camera.difference import DifferenceSettings
from culling.edge.cascade.settings import CascadeSettings
from culling.edge.output.settings import SECRETS, OutputSettings
from culling.edge.view.settings import ViewSettings

_CURVE_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


def _curve_key(key: str) -> str:
    if not _CURVE_KEY.fullmatch(key):
        raise ValueError("expected a CURVE key of 40 characters, as `culling cloud enroll` prints it")
    return key


def _secret_curve_key(key: SecretStr) -> SecretStr:
    _curve_key(key.get_secret_value())
    return key


def _signing_key(key: str) -> str:
    try:
        size = len(base64.b64decode(key, validate=True))
    except binascii.Error:
        size = 0
    if size != 32:
        raise ValueError("expected an Ed25519 public key in base64, as `culling cloud enroll` prints it")
    return key


class AgentSettings(Section):
    """`[agent]`: the process itself. `trace` names a file that gets one JSON line per inferred frame."""

    state_dir: Path = Field(description="folder for the spool and the models; made for its owner alone")
    allow_cpu: bool = Field(
        default=False,
        description="run the student on the CPU where there is no GPU; without it the agent does not start there",
    )
    threads: int = Field(default=0, ge=0, le=256, description="threads of one inference; 0: as many as there are cores")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least severe log lines to write"
    )
    drain_s: float = Field(
        default=10.0,
        ge=0,
        le=600,
        description="seconds that a stopping agent may take to write and send what is queued",
    )
    exit_when_done: bool = Field(default=False, description="end when every camera is a file that has ended")
    trace: Path | None = Field(
        default=None,
        description="file that gets one JSON line per inferred frame, for benchmarks and the demo's figures",
    )


class LinkSettings(Section):
    """`[cloud]`: the link to the service. `upload_bytes_per_s` of 0 means as fast as the line allows. `heartbeat_s` is
    bounded, because the cloud takes an edge for down after three heartbeats at that bound.
    """

    endpoint: Endpoint = Field(
        description="address of the service, `tcp://HOST:PORT`; an IPv6 address stands in brackets, `tcp://[::1]:5577`"
    )
    server_key: Annotated[str, AfterValidator(_curve_key)] = Field(
        description="public CURVE key of the service; `culling cloud keys` prints it"
    )
    secret_key: Annotated[SecretStr, AfterValidator(_secret_curve_key)] = Field(
        description="this edge's own CURVE key; `culling cloud enroll` makes it. The file's mode must be 0600"
    )
    signing_keys: tuple[Annotated[str, AfterValidator(_signing_key)], ...] = Field(
        min_length=1, description="public Ed25519 keys whose models this edge accepts; two while one is being replaced"
    )
    upload_bytes_per_s: int = Field(
        default=0, ge=0, description="most bytes per second sent to the cloud; 0: as fast as the line allows"
    )
    heartbeat_s: float = Field(
        default=5.0,
        gt=0,
        le=10,
        description="seconds between two reports of the counters; an edge that is silent for three of the longest "
        "counts as down",
    )


class StudentSettings(Section):
    """`[student]`: `initial` is an ONNX file; signed manifests are beside it, `<stem>.<camera>.manifest`."""

    initial: Path | None = Field(
        default=None,
        description="ONNX file of the first model; the signed manifest of each camera lies beside it as "
        "`STEM.CAMERA.manifest`. Without it a camera waits for the cloud's first offer",
    )

    def manifest(self, camera: str) -> Path | None:
        """Return the path of the initial model's manifest for `camera`; None without an initial model."""
        return None if self.initial is None else self.initial.with_name(f"{self.initial.stem}.{camera}.manifest")


class ConfidenceSettings(Section):
    """`[confidence]`: the loss of a frame. `interest` names the classes that count, an empty list means every class;
    boxes with a side below `min_side` pixels do not count. With `ranking` "learned", frames are chosen by the ranker
    that came with the model, which was fitted to frames scored under these settings; without one, or with "loss", by
    their loss.
    """

    policy: str = Field(
        default="paper",
        description="form of the confidence loss: `paper`, `zero-intercept`, `reference` or `per-object`",
    )
    interest: tuple[str, ...] = Field(default=(), description="classes that count towards the loss; an empty list: all")
    min_side: float = Field(default=0.0, ge=0, description="boxes with a side below so many pixels do not count")
    normalise: bool = Field(
        default=False, description="divide each class's loss by its running spread, and take the mean over classes"
    )
    ranking: Literal["learned", "loss"] = Field(
        default="learned",
        description="`learned`: a ranker chooses frames where the model brings one that has proven better; `loss`: the "
        "confidence loss always does",
    )

    @field_validator("policy")
    @classmethod
    def _known_policy(cls, policy: str) -> str:
        if policy not in POLICIES:
            raise ValueError(f"expected one of {', '.join(sorted(POLICIES))}")
        return policy


class SpoolSettings(Section):
    """`[spool]`: frames that wait on disk for the cloud; up to `queue` more wait in memory for the disk."""

    max_bytes: int = Field(
        default=2 << 30,
        ge=1 << 20,
        description="size of the spool's frames beyond which the least valuable frames are given up",
    )
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="quality of forwarded pictures")
    queue: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="frames that may wait in memory for the disk; further ones are dropped and counted",
    )


class MetricsSettings(Section):
    """`[metrics]`: where `/metrics`, `/healthz` and `/readyz` are served; port 0 takes a free one."""

    host: Host = Field(
        default="127.0.0.1", description="address on which `/metrics`, `/healthz` and `/readyz` are served"
    )
    port: int = Field(default=9464, ge=0, le=65535, description="port of the same; 0 takes a free one")


class EdgeSettings(Settings):
    """All settings of one agent; `load_settings` reads them."""

    side = "edge"
    searched = (Path("edge.toml"), Path("/etc/culling/edge.toml"), Path("/var/lib/culling-edge/edge.toml"))

    agent: AgentSettings
    cloud: LinkSettings
    camera: tuple[CameraSettings, ...] = Field(min_length=1)
    student: StudentSettings = StudentSettings()
    difference: DifferenceSettings = DifferenceSettings()
    confidence: ConfidenceSettings = ConfidenceSettings()
    selector: SelectorSettings = SelectorSettings()
    spool: SpoolSettings = SpoolSettings()
    metrics: MetricsSettings = MetricsSettings()
    view: ViewSettings = ViewSettings()
    traces: TracesSettings = TracesSettings()
    cascade: CascadeSettings = CascadeSettings()
    output: tuple[OutputSettings, ...] = ()

    @field_validator("camera")
    @classmethod
    def _unique_names(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        name, times = Counter(camera.name for camera in cameras).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{times} cameras are named {name!r}: give each a name of its own")
        return cameras

    @field_validator("cascade")
    @classmethod
    def _known_cameras(cls, cascade: CascadeSettings, info: ValidationInfo) -> CascadeSettings:
        known = {camera.name for camera in info.data.get("camera", ())}
        if known and (strange := sorted(set(cascade.cameras) - known)):
            raise ValueError(f"cameras: there is no camera {strange[0]!r}")
        return cascade

    @field_validator("output")
    @classmethod
    def _consistent_outputs(
        cls, outputs: tuple[OutputSettings, ...], info: ValidationInfo
    ) -> tuple[OutputSettings, ...]:
        if outputs and (twice := Counter(one.name for one in outputs).most_common(1)[0])[1] > 1:
            raise ValueError(f"{twice[1]} outputs are named {twice[0]!r}: give each a name of its own")
        if sum(one.kind == "stdout" for one in outputs) > 1:
            raise ValueError("there is one standard output: keep one of kind = 'stdout'")
        cameras: tuple[CameraSettings, ...] = info.data.get("camera", ())
        known = {
            "cameras": {camera.name for camera in cameras},
            "zones": {zone.name for camera in cameras for zone in camera.zone},
        }
        for one in outputs if cameras else ():
            for key, names in known.items():
                if strange := sorted(set(getattr(one, key)) - names):
                    raise ValueError(f"output {one.name}: {key}: there is no {key.removesuffix('s')} {strange[0]!r}")
        return outputs

    @field_validator("output")
    @classmethod
    def _has_records(cls, outputs: tuple[OutputSettings, ...], info: ValidationInfo) -> tuple[OutputSettings, ...]:
        if not outputs and "cascade" in info.data and info.data["cascade"].per_minute:
            raise ValueError("the teacher is asked about records (cascade.per_minute), and there is no [[output]]")
        return outputs


def load_settings(path: Path | None, overrides: dict[str, Any]) -> EdgeSettings:
    """Read the settings at `path` (None: variables alone); `overrides` maps dotted keys to values from flags.

    Raises `SettingsError` naming the key, or the file when it holds a secret that others may read.
    """
    if path is not None:
        require_private(path)
    return load(EdgeSettings, path, overrides)


def require_private(path: Path) -> None:
    """Refuse a settings file that holds `secret_key`, a camera's password or an output's, and that others may read."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        secrets = ["cloud.secret_key"] if "secret_key" in told.get("cloud", {}) else []
        urls = [camera.get("url", "") for camera in told.get("camera", ())]
        secrets += ["a camera's password"] if any(redact(url) != url for url in urls) else []
        secrets += ["an output's secret"] if any(_secret(output) for output in told.get("output", ())) else []
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError, AttributeError, TypeError):
        return  # `load` reports an unreadable or malformed file, by key or line
    if secrets and mode & 0o077:
        held = " and ".join(secrets)
        raise SettingsError(f"{path}: holds {held} but its mode is {mode:04o}: run `chmod 600 {path}`")


def _secret(output: dict[str, Any]) -> bool:
    url = output.get("url", "")
    return SECRETS[0] in output or redact(url) != url or bool(output.get("options"))
