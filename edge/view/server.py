"""The view's own small server: the page, each camera's newest picture, and regions that are drawn there.

    GET  /                               the page, self-contained
    GET  /api/access                     whether a token is asked for
    GET  /api/cameras                    all cameras: state, classes, regions, and whether regions may be applied
    GET  /api/cameras/NAME/live?last=N   the next picture but number N, with its boxes; waits for it for some seconds
    POST /api/cameras/NAME/check         drawn regions → TOML to paste
    POST /api/cameras/NAME/regions       drawn regions → the settings file, and the agent (`view.actions`)
    POST /api/cameras/NAME/reread        the settings file → the agent (`view.actions`)

The standard library's server, as for `/metrics`: an edge has no other web library, and a handful of viewers, each of
whom asks for one picture after another and waits on a thread of its own, need none. It answers to known host names
only and sends no cookie; the token comes in a header, which no other site's page can send. Every address in the page is
relative, so that a proxy that strips its path may serve it below any.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import structlog

from culling.common.address import family, http_url, in_url
from culling.common.clock import Clock
from culling.common.errors import CullingError, InputError, SettingsError
from culling.common.metrics import Metrics
from culling.common.page.access import holds, own
from culling.common.page.assemble import assemble
from culling.common.process.survival import note_failed
from culling.edge.output.sink import CameraNow
from culling.edge.view.cameras import to_send
from culling.edge.view.desk import Desk, WrittenError
from culling.edge.view.frames import LOOKS_S, LiveFrames
from culling.edge.view.pace import Pace
from culling.edge.view.settings import ViewSettings

log = structlog.get_logger(__name__)

WAIT_S = 2.0
"""How long a request waits for a picture, before it is told why there is none."""
IDLE_S = 15.0
"""A connection that is silent for so long is closed, and so is one that takes nothing."""
MOST_BODY = 256 << 10
"""Of drawn regions; all that settings allow fits in."""
CONNECTIONS = 6
"""That a browser opens to one host, at most."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
CODES = {InputError: HTTPStatus.CONFLICT, SettingsError: HTTPStatus.UNPROCESSABLE_ENTITY}


class RefusedError(Exception):
    """A request is answered with that status and line."""

    def __init__(self, status: HTTPStatus, line: str) -> None:
        super().__init__(line)
        self.status = status


class Applied(msgspec.Struct):
    """The body of `POST …/regions`: what was drawn, and the regions that it began with."""

    regions: dict[str, Any]
    before: dict[str, Any]


class ViewServer:
    """Serves from threads of its own as soon as it is made; `url` is where.

    `token` is what whoever looks must send; it is asked of whoever acts even where `view.token` is false. Raises
    SettingsError when the address cannot be listened on.
    """

    def __init__(
        self,
        settings: ViewSettings,
        token: str,
        live: LiveFrames,
        desk: Desk,
        cameras: Callable[[], Sequence[CameraNow]],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.token = token
        self.live = live
        self.desk = desk
        self.cameras = cameras
        self.metrics = metrics
        self.clock = clock
        self.page, self.policy = assemble("culling.edge.view")
        self.hosts = {*LOOPBACK, in_url(settings.host).lower(), *(in_url(name).lower() for name in settings.names)}
        self.pace = Pace()
        self._viewers: dict[str, float] = {}
        self._entering = threading.Lock()
        metrics.follow("view_viewers", self._looking)
        self._server = listen(settings, self)
        self.url = http_url(settings.host, self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and let nobody wait."""
        self.live.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def enter(self, viewer: str) -> None:
        """Count a browser that looks. Raises RefusedError where as many as may look do so already."""
        now = time.monotonic()
        with self._entering:
            self._viewers = {one: until for one, until in self._viewers.items() if until > now}
            most = self.settings.viewers
            if viewer not in self._viewers and len(self._viewers) >= most:
                raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, f"{most} browsers look already: try again later")
            self._viewers[viewer] = now + WAIT_S + LOOKS_S

    def _looking(self) -> int:
        now = time.monotonic()
        return sum(until > now for until in list(self._viewers.values()))


def listen(settings: ViewSettings, view: ViewServer | None = None) -> ThreadingHTTPServer:
    """Return a server of `view` that listens, and does not serve yet. Raises SettingsError."""
    try:
        return _Server(settings, view)
    except OSError as error:
        reason, where = error.strerror or str(error), f"{in_url(settings.host)}:{settings.port}"
        raise SettingsError(f"view.host, view.port: cannot listen on {where}: {reason}") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, settings: ViewSettings, view: ViewServer | None) -> None:
        self.view = view
        self.address_family = family(settings.host)
        self._free = threading.BoundedSemaphore((settings.viewers + 1) * CONNECTIONS)
        super().__init__((settings.host, settings.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:  # a thread for each of any number of connections would be the agent's own
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client go that hung up; what else is raised is counted where it is answered."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    @property
    def _view(self) -> ViewServer:
        assert self.server.view is not None, "only a server of a view serves"
        return self.server.view

    def _answered(self, act: Callable[[list[str]], None]) -> None:
        """Answer, whatever is raised."""
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        try:
            self._known_host()
            act(urlsplit(self.path).path.strip("/").split("/"))
        except RefusedError as error:
            self._told({"error": str(error)}, error.status)
        except WrittenError as error:
            self._told({"error": str(error), "written": True}, HTTPStatus.SERVICE_UNAVAILABLE)
        except CullingError as error:
            self._told({"error": str(error)}, CODES.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE))
        except OSError:  # a client that hung up, or takes nothing
            self.close_connection = True
        except Exception as error:
            note_failed("view", self._view.metrics, error)
            with suppress(OSError):
                self._told({"error": "a defect of ours: the agent's log says more"}, HTTPStatus.INTERNAL_SERVER_ERROR)
        self.close_connection = self.close_connection or self._unread  # a body that was not read is no next request

    def _get(self, path: list[str]) -> None:
        match path:
            case [""]:
                self._send(self._view.page, "text/html; charset=utf-8")
            case ["api", "access"]:
                self._told({"token": self._view.settings.token})
            case ["api", "cameras"]:
                self._let_look()
                self._told({"cameras": [self._camera(one) for one in self._view.cameras()], "actions": self._may_act()})
            case ["api", "cameras", name, "live"]:
                self._let_look()
                self._live(self._named(name))
            case _:
                raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self, path: list[str]) -> None:
        body = self._body()
        match path:
            case ["api", "cameras", name, "check"]:
                self._let_look()
                self._told({"toml": self._view.desk.paste(name, _decoded(body, dict[str, Any]))})
            case ["api", "cameras", name, "regions"]:
                self._let_act()
                asked = _decoded(body, Applied)
                log.info("regions_drawn", camera=name, client=self.client_address[0])
                self._told({"answer": self._view.desk.apply(name, asked.regions, asked.before)})
            case ["api", "cameras", name, "reread"]:
                self._let_act()
                self._told({"answer": self._view.desk.reread(name)})
            case _:
                raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _live(self, camera: CameraNow) -> None:
        query = parse_qs(urlsplit(self.path).query)
        last, viewer = query.get("last", ["0"])[0], query.get("viewer", [self.client_address[0]])[0]
        self._view.enter(viewer[:64])
        shown = self._view.live.newest(camera.name, int(last) if last.isdecimal() else 0, WAIT_S)
        now = self._named(camera.name)
        view = self._view
        self._send(to_send(now, shown, view.pace, view.metrics, view.clock), "application/octet-stream")

    def _camera(self, camera: CameraNow) -> dict[str, Any]:
        regions = self._view.desk.regions(camera.name)
        return {"name": camera.name, "state": camera.state, "classes": camera.classes, "regions": regions}

    def _named(self, name: str) -> CameraNow:
        for camera in self._view.cameras():
            if camera.name == name:
                return camera
        raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such camera")

    # Who may

    def _known_host(self) -> None:
        """Answer to known names only: another name that leads here may be another site's, in a browser nearby."""
        host = self.headers.get("Host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name.lower() not in self._view.hosts:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "this name is not known here: add it to view.names")

    def _let_look(self) -> None:
        if self._view.settings.token:
            self._let_in()

    def _let_in(self) -> None:
        if not holds(self.headers, self._view.token):
            log.warning("view_refused", client=self.client_address[0], reason="token")
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "wrong token: use the line in view.token of the state folder")

    def _may_act(self) -> bool:
        return self._view.settings.actions

    def _let_act(self) -> None:
        if not self._may_act():
            raise RefusedError(HTTPStatus.FORBIDDEN, "this view only shows: set view.actions, or paste the TOML")
        self._let_in()
        origin = self.headers.get("Origin")
        if origin is not None and not own(origin, self.headers.get("Host", ""), self._view.settings.names):
            raise RefusedError(HTTPStatus.FORBIDDEN, "requests from another site's page are refused")

    # In and out

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BODY:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_BODY} bytes")
        body = self.rfile.read(int(length))
        self._unread = False
        if self.headers.get_content_type() != "application/json":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        return body

    def _told(self, body: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(msgspec.json.encode(body), "application/json", status)

    def _send(self, body: bytes, content_type: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": self._view.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "culling"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: whoever looks asks ten times a second."""


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
