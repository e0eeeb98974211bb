"""`[service]`, `[metrics]` and `[page]`: the process, and where it shows what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from culling.common.address import Endpoint, Host, Network
from culling.common.config import Section


class ServiceSettings(Section):
    """`[service]`: the process itself.

    `window` frames of one edge may be unacknowledged at a time; it shrinks when the teacher's queue passes
    `queue_high` frames of a camera, while the disk is slow to store a frame, and when it nears `reserve_bytes`, below
    which nothing is stored.
    """

    data_dir: Path = Field(
        description="folder that holds keys, index, frames, models and rounds; made for its owner alone"
    )
    endpoint: Endpoint = Field(
        default="tcp://127.0.0.1:5577",
        description="address that edges connect to, `tcp://HOST:PORT`; an IPv6 address stands in brackets, and "
        "`tcp://*:PORT` is every address of the machine",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least severe log lines to write"
    )
    window: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="frames that one edge may have unacknowledged at a time; it shrinks when the teacher or the disk "
        "falls behind",
    )
    queue_high: int = Field(
        default=4096, ge=1, description="frames of one camera waiting for the teacher above which its window shrinks"
    )
    reserve_bytes: int = Field(
        default=512 << 20, ge=0, description="free bytes on the disk below which nothing is stored"
    )
    curve_key: SecretStr | None = Field(
        default=None,
        description="the link's secret key, best as `CULLING_SERVICE__CURVE_KEY`: all ingests behind one address have "
        "the same; none: that of `curve_key_file`",
    )
    curve_key_file: Path | None = Field(
        default=None, description="file that holds the link's secret key; none: `keys/curve.secret` of the data folder"
    )
    signing_key: SecretStr | None = Field(
        default=None,
        description="the key that signs models, best as `CULLING_SERVICE__SIGNING_KEY`; none: that of "
        "`signing_key_file`",
    )
    signing_key_file: Path | None = Field(
        default=None,
        description="file that holds the key that signs models, where control runs; none: `keys/signing.secret` of the "
        "data folder",
    )


class MetricsSettings(Section):
    """`[metrics]`: where `/metrics`, `/healthz` and `/readyz` are served; port 0 takes a free one. Above so many
    `cameras` their series are merged.
    """

    host: Host = Field(
        default="127.0.0.1", description="address on which `/metrics`, `/healthz` and `/readyz` are served"
    )
    port: int = Field(default=9465, ge=0, le=65535, description="port of the same; 0 takes a free one")
    cameras: int = Field(
        default=500,
        ge=0,
        description="enrolled cameras above which a service that starts exports the series of cameras once, merged "
        'under `camera="(all)"`; 0: always',
    )


class PageSettings(Section):
    """`[page]`: where the page is served, and to which host names beside its own; port 0 takes a free one.

    It is read-only unless `actions` allows requests, from holders of a token and operators (`access.groups`). At most
    `streams` may watch at a time.
    Behind a proxy, `names` are the names that browsers know it by, `root_path` the path below which it serves the page,
    and `proxies` the addresses or networks that tell the truth about who asks (`X-Forwarded-For`).
    """

    host: Host = Field(default="127.0.0.1", description="address on which the page is served")
    port: int = Field(default=9466, ge=0, le=65535, description="port of the page; 0 takes a free one")
    names: tuple[Host, ...] = Field(
        default=(),
        description="further host names by which browsers may ask for the page, e.g. that of a proxy; without a port",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path below which a proxy serves the page, e.g. `/culling`; the proxy may strip it or not",
    )
    proxies: tuple[Network, ...] = Field(
        default=("127.0.0.1", "::1"),
        description="addresses or networks of proxies; what they say in `X-Forwarded-For` is believed, for the log",
    )
    actions: bool = Field(
        default=False,
        description="let people act on the page: whoever holds the token in `page.token`, tokens of programs, and "
        "operators (`access.groups`)",
    )
    token_file: Path | None = Field(
        default=None,
        description="file that holds the token, the same for all pages behind one address; none: `page.token` of the "
        "data folder, made by the first start",
    )
    streams: int = Field(default=200, ge=1, le=10_000, description="browsers that may watch at a time")
