"""What `culling cloud` shows and does, over HTTP: fleet, cameras, frames, rounds, models, alerts, and requests.

The API describes itself at `api/openapi.json`; what a row holds is said where the page makes it (`cloud/page/`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from culling.common.errors import CullingError, InputError, StorageError

TIMEOUT_S = 20.0
ANSWER_S = 15.0
"""The service carries out a request within a second, unless its disk is slow."""

Row = dict[str, Any]


class _Stay(HTTPRedirectHandler):
    """Follows no redirection: it would carry the token elsewhere, and lead from the API to a proxy's sign-in page."""

    def redirect_request(self, *_: Any) -> None:
        """Return nothing to go on with."""


_OPENER = build_opener(_Stay)


class Client:
    """Speaks to the page at `url`; `token` is one that `culling cloud token create` printed, if it asks for any.

    Every method raises InputError for what is not there or may not be done, with what the service says of it, and
    StorageError where it cannot be reached.
    """

    def __init__(self, url: str, token: str = "", timeout_s: float = TIMEOUT_S) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise InputError(f"{url}: expected the page's address, such as http://127.0.0.1:9466")
        self._url = url.rstrip("/")
        self._headers = {"X-Culling-Token": token} if token else {}
        self._timeout_s = timeout_s

    # Reading

    def me(self) -> Row:
        """Return who asks, its highest role, the edges that it sees and those that it may act on; None is all."""
        found: Row = self._get("api/me")
        return found

    def fleet(self) -> list[Row]:
        """Return one row per camera."""
        rows: list[Row] = self._get("api/fleet")["cameras"]
        return rows

    def camera(self, name: str) -> Row:
        """Return one camera: its `row`, its day, and what it costs."""
        found: Row = self._get(f"api/cameras/{_part(name)}")
        return found

    def frames(self, name: str, limit: int = 24, **narrow: Any) -> list[Row]:
        """Return stored frames of a camera with their boxes, newest first.

        They may be narrowed: `before` (seconds since the epoch), `reason`, `kept`, `labelled`, `culled_by`.
        """
        return self._rows(f"api/cameras/{_part(name)}/frames", limit=limit, **narrow)

    def picture(self, frame: str) -> bytes:
        """Return the picture of a frame, JPEG."""
        return self._ask(f"api/frames/{_part(frame)}.jpg")

    def models(self, name: str) -> list[Row]:
        """Return the models of a camera, newest first."""
        return self._rows(f"api/cameras/{_part(name)}/models")

    def rounds(self, camera: str | None = None, limit: int = 20) -> list[Row]:
        """Return rounds, newest first, of one camera or of all."""
        return self._rows("api/rounds", camera=camera, limit=limit)

    def alerts(self) -> dict[str, list[Row]]:
        """Return what is wrong `now`, and what was `before`."""
        found: dict[str, list[Row]] = self._get("api/alerts")
        return found

    def audit(self, since: float = 0.0, limit: int = 200) -> list[Row]:
        """Return who did what, newest first; for admins."""
        return self._rows("api/deeds", since=since, limit=limit)

    # Acting: each returns what the service answers

    def start_round(self, camera: str) -> int:
        """Ask for a round of a camera; return the request's number. It starts once no other round is running."""
        return self.ask("round", camera)

    def rollback(self, camera: str) -> str:
        """Go back to the model before the live one."""
        return self.do("rollback", camera)

    def publish(self, camera: str, model_id: str) -> str:
        """Make a model that the camera had its live one again."""
        return self.do("publish", camera, model_id=model_id)

    def pin(self, camera: str, model_id: str | None = None) -> str:
        """Keep a camera on one model, the live one if none is named; `unpin` ends it."""
        return self.do("pin", camera, model_id=model_id)

    def unpin(self, camera: str) -> str:
        """Let a camera accept new models again."""
        return self.do("unpin", camera)

    def pause(self, camera: str) -> str:
        """Stop a camera from forwarding frames."""
        return self.do("pause", camera)

    def resume(self, camera: str) -> str:
        """Let a camera forward frames again."""
        return self.do("resume", camera)

    def hold(self, camera: str) -> str:
        """Stop rounds of a camera from starting by themselves."""
        return self.do("hold", camera)

    def unhold(self, camera: str) -> str:
        """Let rounds of a camera start by themselves again."""
        return self.do("unhold", camera)

    def frame(self, camera: str) -> str:
        """Make a camera forward its next frame."""
        return self.do("frame", camera)

    def budget(self, camera: str, frames_per_window: int | None) -> str:
        """Set how many frames a camera may forward per window; None is the budget in its settings."""
        return self.do("budget", camera, frames_per_window=frames_per_window)

    def do(self, kind: str, camera: str, within_s: float = ANSWER_S, **more: Any) -> str:
        """Ask for something, and wait until the service has carried it out. Raises CullingError where it refuses."""
        number = self.ask(kind, camera, **more)
        return _until(lambda: self.answered(number), within_s, f"request {number} is not carried out yet")

    def ask(self, kind: str, camera: str, **more: Any) -> int:
        """Ask for something, as `POST /api/actions` takes it; return the request's number."""
        body = {"kind": kind, "camera": camera} | {name: value for name, value in more.items() if value is not None}
        return int(json.loads(self._ask("api/actions", json.dumps(body).encode()))["request"])

    def answered(self, number: int) -> tuple[bool, str] | None:
        """Return whether a request was carried out, and the answer; None while it waits."""
        found = self._get(f"api/requests/{number}")
        return (found["ok"], found["answer"]) if found["done"] else None

    # The line

    def _rows(self, path: str, **query: Any) -> list[Row]:
        given = {
            name: str(value).lower() if value is True or value is False else value for name, value in query.items()
        }
        asked = urlencode({name: value for name, value in given.items() if value is not None})
        rows: list[Row] = self._get(f"{path}?{asked}" if asked else path)
        return rows

    def _get(self, path: str) -> Any:
        return json.loads(self._ask(path))

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        kind = {} if body is None else {"Content-Type": "application/json"}
        request = Request(f"{self._url}/{path}", body, {**self._headers, **kind})
        try:
            with _OPENER.open(request, timeout=self._timeout_s) as answer:
                data: bytes = answer.read()
                return data
        except HTTPError as error:
            with error:
                said = _said(error.read(), f"{error.code} {error.reason}")
            if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise StorageError(f"{self._url}: {said}") from None
            raise InputError(said) from None
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise StorageError(f"{self._url} cannot be reached: {reason}") from None


def _said(body: bytes, otherwise: str) -> str:
    try:
        told = json.loads(body)
        return str(told.get("error") or told.get("detail") or otherwise)
    except (ValueError, AttributeError):
        return otherwise


def _part(name: str) -> str:
    return quote(name, safe="")


def _until(answered: Callable[[], tuple[bool, str] | None], within_s: float, late: str) -> str:
    deadline = time.monotonic() + within_s
    while (answer := answered()) is None:
        if time.monotonic() >= deadline:
            raise StorageError(late)
        time.sleep(0.1)
    done, text = answer
    if not done:
        raise CullingError(text)
    return text
