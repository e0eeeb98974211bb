"""How cameras are opened, and what is said of those that cannot be."""

from __future__ import annotations

import pytest

from culling.common.clock import SystemClock
from culling.common.errors import CameraError
from culling.edge.camera.opening import open_camera
from culling.edge.camera.settings import CameraSettings
from support.http import answering, send
from support.rtsp import RtspServer

MD5 = 'Digest realm="cam", nonce="a1"'


def settings(url: str, **more: object) -> CameraSettings:
    return CameraSettings.model_validate({"name": "gate", "url": url, "open_timeout_s": 2, "read_timeout_s": 2} | more)


def refused(url: str, **more: object) -> str:
    with pytest.raises(CameraError) as caught:
        open_camera(settings(url, **more), SystemClock())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.fault
class TestTransport:
    @pytest.mark.parametrize(
        ("offered", "transport", "used"),
        [
            (("tcp", "udp"), "auto", "tcp"),
            (("tcp", "udp"), "tcp", "tcp"),
            (("tcp", "udp"), "udp", "udp"),
            (("udp",), "auto", "udp"),
            (("udp",), "udp", "udp"),
            (("tcp",), "auto", "tcp"),
        ],
    )
    def test_pictures_come_by_what_is_asked_for(self, offered: tuple[str, ...], transport: str, used: str) -> None:
        with RtspServer(transports=offered) as camera:
            with open_camera(settings(camera.url, transport=transport), SystemClock()) as container:
                assert next(container.decode(video=0)).width == 160
            assert camera.played_by == [used]

    @pytest.mark.parametrize(("offered", "transport"), [("udp", "tcp"), ("tcp", "udp")])
    def test_a_camera_that_refuses_it_is_told_with_what_helps(self, offered: str, transport: str) -> None:
        with RtspServer(transports=(offered,)) as camera:
            assert f'does not send by {transport}, transport = "auto"' in refused(camera.url, transport=transport)


@pytest.mark.fault
class TestLogin:
    @pytest.mark.parametrize("algorithm", ["SHA-256", "SHA-512-256"])
    def test_a_digest_that_ffmpeg_does_not_know_is_named(self, algorithm: str) -> None:
        challenge = f'{MD5}, algorithm="{algorithm}"'
        with RtspServer(challenge=challenge) as camera:
            message = refused(camera.url)
        with answering(lambda to: send(to, 401, "text/plain", b"", WWW_Authenticate=challenge)) as web:
            other = refused(f"http://admin:s3cret@{web.url.removeprefix('http://')}/video.mjpeg")
        for told in (message, other):
            assert f"it only takes {algorithm} digests" in told
            assert "s3cret" not in told

    @pytest.mark.parametrize(
        "challenge", [MD5, 'Basic realm="cam"', f"{MD5}\r\nWWW-Authenticate: {MD5}, algorithm=SHA-256"]
    )
    def test_a_wrong_password_is_only_that(self, challenge: str) -> None:
        with RtspServer(challenge=challenge) as camera:
            assert refused(camera.url).endswith("401 Unauthorized (authorization failed)")

    @pytest.mark.parametrize("password", ["pa/ss", "pa?ss", "pa#ss", "12/34", "p@s/s"])
    def test_a_password_that_is_not_encoded_gets_a_hint_and_is_not_repeated(self, password: str) -> None:
        with RtspServer() as camera:
            message = refused(camera.url.replace("s3cret", password))
        told, _, hint = message.partition("; ")
        assert hint == "if its password holds / ? # or @, write them as %2F %3F %23 and %40"
        assert told.startswith("camera gate: rtsp://***@127.0.0.1:")
        assert password not in told

    def test_an_encoded_password_is_taken(self) -> None:
        with (
            RtspServer() as camera,
            open_camera(settings(camera.url.replace("s3cret", "pa%2Fs%40s")), SystemClock()) as container,
        ):
            assert container.format.name == "rtsp"

    def test_an_address_without_such_a_password_gets_no_hint(self) -> None:
        with RtspServer() as camera:
            pass
        assert refused(camera.url).endswith("Connection refused")
