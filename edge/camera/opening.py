"""How a camera is opened: what FFmpeg is told of its kind, and what a failure is called.

Only `timeout=(open, read)` ends a mute server and a slow drip alike: FFmpeg ignores `stimeout` by now, and its
`timeout` option misses drips. FFmpeg's messages repeat URLs with their passwords, so each one is redacted.
"""

from __future__ import annotations

import errno
import re
from typing import Any

import av

from culling.common.clock import Clock
from culling.common.errors import CameraError
from culling.common.logs import redact
from culling.common.video import FAILURES, address, why
from culling.edge.camera.challenge import unknown_digest
from culling.edge.camera.settings import CameraSettings

_RTSP = {"allowed_media_types": "video", "analyzeduration": "1000000"}
_TRANSPORTS = {
    "auto": {"rtsp_flags": "prefer_tcp"},
    "tcp": {"rtsp_transport": "tcp"},
    "udp": {"rtsp_transport": "udp"},
}
_IN_PASSWORD = re.compile(r"://[^/?#@]*:\S*[/?#@]\S*@")
"""A password that FFmpeg takes for the end of the host, or for a host of its own."""


def open_camera(settings: CameraSettings, clock: Clock) -> Any:
    """Return the container that PyAV opens. Raises `CameraError`, after at most twice `open_timeout_s`."""
    began = clock.monotonic()
    try:
        return av.open(
            settings.url if settings.device else address(settings.url),
            format=settings.format or ("v4l2" if settings.device else None),
            options=_RTSP | _TRANSPORTS[settings.transport] if settings.rtsp else {},
            timeout=(settings.open_timeout_s, settings.read_timeout_s),
            metadata_errors="replace",
        )
    except FAILURES as error:
        # FFmpeg reports a timeout sometimes as such, sometimes as invalid data.
        late = clock.monotonic() - began >= settings.open_timeout_s
        what = f"no answer within {settings.open_timeout_s:g} s" if late else why(error)
        raise camera_error(settings, what + hints(settings, error)) from None


def hints(settings: CameraSettings, error: Exception) -> str:
    """Return what more can be told of an address that cannot be opened or read."""
    if _IN_PASSWORD.search(settings.url):
        return "; if its password holds / ? # or @, write them as %2F %3F %23 and %40"
    if isinstance(error, av.error.HTTPUnauthorizedError):
        algorithm = unknown_digest(settings.url, settings.open_timeout_s)
        if algorithm is not None:
            return f"; it only takes {algorithm} digests, which FFmpeg does not know: let it take MD5 digests or Basic"
    if settings.rtsp and getattr(error, "errno", None) == errno.EPROTONOSUPPORT:
        return f'; it does not send by {settings.transport}, transport = "auto" takes what it sends by'
    if isinstance(error, av.error.InvalidDataError) and settings.remote and not settings.format:
        return '; if it is MJPEG, say so with format = "mjpeg"'
    return ""


def camera_error(settings: CameraSettings, what: str) -> CameraError:
    """Return the error of this camera, without its password."""
    return CameraError(redact(f"camera {settings.name}: {settings.url}: {what}"))
