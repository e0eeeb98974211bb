from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading

import pytest
import structlog

from culling.common import logs
from culling.common.logs import redact


class TestRedact:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("rtsp://me:hunter2@cam.local:554/s1", "rtsp://***@cam.local:554/s1"),
            ("opened rtsp://me:hunter2@cam/1 in 2 s", "opened rtsp://***@cam/1 in 2 s"),
            ("rtsp://me:hun/ter@2@cam/1", "rtsp://***@cam/1"),
            ("rtsp://token@cam/1", "rtsp://***@cam/1"),
            ("[rtsp @ 0x55] rtsp://me:hunter2@cam: 401", "[rtsp @ 0x55] rtsp://***@cam: 401"),
            ("'http://a:b@c/' and 'https://d:e@f/'", "'http://***@c/' and 'https://***@f/'"),
            ("http://cam/v?user=me&password=hunter2&x=1", "http://cam/v?user=me&password=***&x=1"),
            ("http://cam/v?access_token=abc", "http://cam/v?access_token=***"),
            ("postgresql+psycopg://me:hunter2@db/x", "postgresql+psycopg://***@db/x"),
        ],
    )
    def test_credentials_go(self, text: str, expected: str) -> None:
        assert redact(text) == expected

    @pytest.mark.parametrize(
        "text", ["", "no url", "rtsp://cam:554/stream", "mail a@b.c", "tcp://127.0.0.1:5577", "http://cam/v?size=2"]
    )
    def test_the_rest_stays(self, text: str) -> None:
        assert redact(text) == text

    def test_twice_is_once(self) -> None:
        once = redact("rtsp://me:pw@cam/?pwd=x")
        assert redact(once) == once


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class TestSetup:
    def test_an_event_is_one_json_line_when_nobody_watches(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("info")
        structlog.get_logger("culling.edge.camera.camera").info("camera_opened", camera="gate", width=640)
        (event,) = events(capsys)
        assert event.pop("timestamp")
        assert event == {
            "event": "camera_opened",
            "level": "info",
            "logger": "culling.edge.camera.camera",
            "camera": "gate",
            "width": 640,
        }

    def test_lines_are_for_people_when_asked(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("info", json=False)
        structlog.get_logger("x").warning("frame_dropped", camera="gate")
        line = capsys.readouterr().err
        assert "frame_dropped" in line
        assert "camera=gate" in line
        assert "\x1b" not in line

    def test_events_below_the_level_are_silent(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("warning")
        structlog.get_logger("x").info("quiet")
        logging.getLogger("library").info("quiet")
        assert events(capsys) == []

    def test_the_last_call_holds(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("error", json=False)
        logs.setup("debug", json=True)
        structlog.get_logger("x").debug("once")
        assert [event["event"] for event in events(capsys)] == ["once"]

    def test_libraries_log_in_the_same_form(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("info")
        logging.getLogger("sqlalchemy.engine").warning("pool of %d is full", 5)
        (event,) = events(capsys)
        assert event["event"] == "pool of 5 is full"
        assert (event["logger"], event["level"]) == ("sqlalchemy.engine", "warning")

    @pytest.mark.parametrize("as_json", [True, False])
    def test_no_password_gets_out_wherever_it_stands(self, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("info", json=as_json)
        url = "rtsp://me:hunter2@cam/1"
        log = structlog.get_logger("x")
        log.info(f"opened {url}", url=url, nested={"urls": [url, (url,)], url: 1}, error=OSError(url), raw=url.encode())
        try:
            raise OSError(f"cannot open {url}")
        except OSError:
            log.exception("camera_failed")
        logging.getLogger("libav.rtsp").error("401 for %s", url)
        out = capsys.readouterr()
        assert "hunter2" not in out.err + out.out
        assert out.err.count("***@cam/1") >= 7


class TestCrash:
    def test_a_thread_that_dies_is_logged_redacted(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("info")

        def die() -> None:
            raise RuntimeError("rtsp://me:hunter2@cam/1")

        thread = threading.Thread(target=die, name="camera-gate")
        thread.start()
        thread.join()
        (event,) = events(capsys)
        assert (event["event"], event["thread"]) == ("thread_crashed", "camera-gate")
        assert "RuntimeError: rtsp://***@cam/1" in str(event["exception"])

    def test_a_thread_that_exits_is_not(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("info")
        thread = threading.Thread(target=sys.exit)
        thread.start()
        thread.join()
        assert events(capsys) == []

    def test_a_process_that_dies_says_so_in_one_line_without_the_password(self) -> None:
        code = "from culling.common import logs; logs.setup('info'); raise OSError('rtsp://me:hunter2@cam/1')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert json.loads(done.stderr)["event"] == "process_crashed"
        assert "hunter2" not in done.stderr


def test_a_process_that_a_person_ends_while_it_starts_has_not_crashed() -> None:
    code = "from culling.common import logs; logs.setup('warning'); raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
