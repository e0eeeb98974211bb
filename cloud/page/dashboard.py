"""The page, and the streams behind it: the fleet, live, and requests from holders of the token.

    GET  /                        the page, self-contained        GET  /api/rounds            rounds, newest first
    GET  /events                  changed rows, as they change    GET  /api/requests/ID       the answer to a request
    GET  /api/fleet               all rows                        POST /api/actions           a request, with a token
    GET  /api/alerts              what is wrong, and was          GET  /api/frames/ID         a hard frame's boxes
    GET  /api/cameras/NAME        one camera's day                GET  /api/frames/ID.jpg     a hard frame
    GET  /api/cameras/NAME/frames, .../models, .../day            its hard frames, its models, its day on one axis
    GET  /api/rounds/ID/changed                                   where its students differ most (`changed.py`)
    GET  /api/cameras/NAME/live   what it sees now (`live.py`); whoever asks looks, and its edge sends pictures
    GET, POST /api/cameras/NAME/review                            frames in dispute, and decisions (`review.py`)

It runs on its own thread inside the service, and only reads the index and what ingest holds; requests it enters in the
index, as the command line does, and who looks live. It answers to known host names only, sends no cookie, and takes
requests only as JSON with the token in a header, which no other site's page can send: `X-Culling-Token`, since
`Authorization` may carry the password that a proxy asks for, or `Authorization: Bearer`.

Every address in it is relative, so that a proxy may serve it below any path (`page.root_path`). Of what a proxy adds to
a request, only the client's address is believed, for the log, and only from `page.proxies`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, get_args

import fastapi
import msgspec
import structlog
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from culling.cloud.control import actions
from culling.cloud.control.said import Said
from culling.cloud.page import review, views
from culling.cloud.page.alerts import service_alerts
from culling.cloud.page.board import Board
from culling.cloud.page.changed import changed
from culling.cloud.page.day import day
from culling.cloud.page.live import live
from culling.cloud.review.desk import open_desk
from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index
from culling.cloud.store.keys import page_token_of
from culling.cloud.store.objects.objects import LostError
from culling.cloud.store.objects.places import model_files
from culling.cloud.store.requests import Kind, Requests
from culling.cloud.store.roster import Told
from culling.common.address import family, http_url, in_url
from culling.common.clock import Clock
from culling.common.errors import InputError, SettingsError, StorageError
from culling.common.metrics import Metrics
from culling.common.page.access import holds, own, token_of
from culling.common.page.assemble import assemble
from culling.common.process.survival import note_failed

log = structlog.get_logger(__name__)

BEAT_S = 0.25
"""A change shows within this time, and many changes travel together."""

AGAIN_S = 1.0
"""After a refresh that failed; most reasons pass."""

PING_S = 10
"""Less than half of what viewers take for a lost connection (`SILENT_S` of `watch.py`, 25 s)."""

STALLED_S = 30.0
"""A viewer that reads nothing for this long is disconnected."""

MOST_BODY = 4096
"""A request is one small JSON object."""

STOP_S = 5.0
"""A viewer that does not leave must not keep the service from ending within ten seconds."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
Limit = Annotated[int, Query(ge=1, le=200)]
FrameName = Annotated[str, fastapi.Path(pattern="^[0-9a-f]{32}$")]
Number = Annotated[int, fastapi.Path(ge=1, le=2**63 - 1)]


class Dashboard:
    """Serves from a thread of its own as soon as it is made; `url` is where.

    Raises SettingsError when the address cannot be listened on.
    """

    def __init__(
        self,
        settings: CloudSettings,
        index: Index,
        frames: FrameStore,
        latest: Callable[[], Mapping[str, Told]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        page = settings.page
        self._listener = _listen(page.host, page.port)
        port = self._listener.getsockname()[1]
        self.url = f"{http_url(page.host, port)}{page.root_path}"
        board = Board(index, latest, clock, settings)
        app = build_app(settings, index, frames, board, clock, metrics, page_token_of(settings))
        config = uvicorn.Config(
            app,
            http=_capped(2 * page.streams + 64),
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=list(page.proxies),
            lifespan="on",
            timeout_keep_alive=10,
            timeout_graceful_shutdown=1,
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and disconnect every viewer."""
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._listener.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])


def build_app(
    settings: CloudSettings, index: Index, frames: FrameStore, board: Board, clock: Clock, metrics: Metrics, token: str
) -> FastAPI:
    """Return the application; it takes requests that carry `token`, if the settings allow requests at all."""
    streams = Streams(board, settings.page.streams, clock, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keeper = asyncio.create_task(streams.keep())
        yield
        keeper.cancel()
        streams.close()

    root = settings.page.root_path
    app = FastAPI(
        title="Culling",
        lifespan=lifespan,
        redirect_slashes=False,  # to an address that would be made from what a proxy says
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    page, policy = assemble("culling.cloud.page")
    _add_reads(app, settings, index, frames, board, clock)
    allowed = _add_requests(app, settings, index, clock, token)
    review.add_routes(app, open_desk(settings, index, frames, clock), allowed)

    @app.get("/")
    async def show() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/events")
    async def events() -> Response:
        return streams.open()

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Any]) -> Response:
        path = request.scope["path"]
        if path.startswith(f"{root}/"):  # a proxy may strip it, or leave it there
            request.scope["path"] = path.removeprefix(root)
        bare = bool(root) and path == root  # the page's addresses are relative to what ends in a slash
        response: Response = RedirectResponse(f"{root}/") if bare else await call_next(request)
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    hosts = [*LOOPBACK, in_url(settings.page.host), *map(in_url, settings.page.names)]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_exception_handler(InputError, lambda _, error: JSONResponse({"error": str(error)}, 404))
    app.add_exception_handler(StorageError, lambda _, error: JSONResponse({"error": str(error)}, 503))
    return app


class Streams:
    """The open streams of all viewers; all of it runs in the server's event loop."""

    def __init__(self, board: Board, most: int, clock: Clock, metrics: Metrics) -> None:
        self._board = board
        self._metrics = metrics
        self._clock = clock
        self._most = most
        self._open = 0
        self._closing = False
        self._changed = asyncio.Event()

    async def keep(self) -> None:
        """Keep the board up to date, and wake the viewers when it changed."""
        while True:
            try:
                if await asyncio.to_thread(self._board.refresh):
                    self._wake()
            except StorageError as error:  # passes; the page says how old its figures are
                log.warning("page_refresh_failed", error=str(error))
                await asyncio.sleep(AGAIN_S)
            except Exception as error:  # without this loop every page would stand still, and say nothing of it
                note_failed("page", self._metrics, error)
                await asyncio.sleep(AGAIN_S)
            await asyncio.sleep(BEAT_S)

    def open(self) -> Response:
        """Return a new stream, or refuse it when there are too many."""
        if self._open >= self._most:
            raise HTTPException(
                503, f"{self._most} viewers are connected already: try again later", {"Retry-After": "5"}
            )
        self._open += 1
        return EventSourceResponse(self._watch(), ping=PING_S, ping_message_factory=self._ping, send_timeout=STALLED_S)

    def close(self) -> None:
        """End every stream."""
        self._closing = True
        self._wake()

    async def _watch(self) -> AsyncIterator[bytes]:
        revision = 0
        try:
            while not self._closing:
                changed = self._changed
                if self._board.revision > revision or revision == 0:
                    revision, data = self._board.since(revision)
                    yield b"event: fleet\r\ndata: " + data + b"\r\n\r\n"  # made once for all: it may be a megabyte
                await changed.wait()
        finally:
            self._open -= 1

    def _ping(self) -> ServerSentEvent:
        return ServerSentEvent(event="ping", data=f"{self._clock.now():.3f}")  # an event: pages hear no comments

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _add_reads(
    app: FastAPI, settings: CloudSettings, index: Index, frames: FrameStore, board: Board, clock: Clock
) -> None:
    files = model_files(settings)

    @app.get("/api/fleet")
    async def fleet() -> Response:
        return Response(board.since(0).data, media_type="application/json")

    @app.get("/api/alerts")
    def wrong() -> dict[str, list[dict[str, Any]]]:
        ringing, data_dir = board.watchman.alerts(), settings.data_dir
        ours = service_alerts(Said(index, settings).problem, shutil.disk_usage(data_dir).free, clock.now())
        return {**ringing, "now": [*ours, *ringing["now"]]}

    @app.get("/api/cameras/{name}")
    def camera(name: str) -> dict[str, Any]:
        return {**views.camera(index, name, clock.now()), "row": board.row(name)}

    @app.get("/api/cameras/{name}/frames")
    def gallery(
        name: str,
        before: float = 1e11,
        limit: Limit = 24,
        reason: str | None = None,
        kept: bool | None = None,
        labelled: bool | None = None,
        culled_by: int | None = None,
    ) -> list[dict[str, Any]]:
        return views.gallery(index, settings, name, before, limit, reason, kept, labelled, culled_by)

    @app.get("/api/cameras/{name}/day")
    def whole_day(name: str) -> dict[str, Any]:
        return day(index, settings, name, clock.now())

    @app.get("/api/cameras/{name}/live")
    def now(name: str, after: float = 0.0) -> dict[str, Any]:
        return live(index, settings, name, after, clock.now())

    @app.get("/api/cameras/{name}/models")
    def models(name: str) -> list[dict[str, Any]]:
        return views.model_list(index, files, name)

    @app.get("/api/rounds")
    def rounds(camera: str | None = None, limit: Limit = 20) -> list[dict[str, Any]]:
        return views.with_progress(views.rounds(index, camera, limit), Said(index, settings))

    @app.get("/api/rounds/{number}/changed")
    def differing(number: Number) -> dict[str, Any]:
        found = changed(index, settings, number)
        if found is None:
            raise HTTPException(404, "no such round, or its gate kept nothing")
        return found

    @app.get("/api/frames/{frame}.jpg")
    def picture(frame: FrameName) -> Response:
        found = views.picture(index, frame)
        try:
            data = None if found is None else frames.picture(found[0], frame, found[1])
        except LostError:
            data = None
        if data is None:
            raise HTTPException(404, "no such picture")
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600, immutable"})

    @app.get("/api/frames/{frame}")
    def boxes(frame: FrameName) -> dict[str, Any]:
        found = views.frame(index, settings, frame)
        if found is None:
            raise HTTPException(404, "no such frame")
        return found


def _add_requests(
    app: FastAPI, settings: CloudSettings, index: Index, clock: Clock, token: str
) -> Callable[[Request], None]:
    """Add what acts; return what raises where a request may not."""
    kinds = set(get_args(Kind)) - {"renew", "classes"}  # sets are told on the command line

    def allowed(request: Request) -> None:
        if not settings.page.actions:
            raise HTTPException(
                403, "this page is read-only: set page.actions to allow requests, or use the command line"
            )
        if not holds(request.headers, token):
            log.warning("request_refused", client=request.client.host if request.client else "", reason="token")
            raise HTTPException(401, "wrong token: use the line in page.token of the data folder")
        origin = request.headers.get("origin")
        if origin is not None and not own(origin, request.headers.get("host", ""), settings.page.names):
            raise HTTPException(403, "requests from another site's page are refused")

    @app.get("/api/actions")
    def allows_requests(request: Request) -> dict[str, bool]:
        if token_of(request.headers) is not None:
            allowed(request)
        return {"actions": settings.page.actions}

    @app.post("/api/actions", status_code=202)
    async def enter(request: Request) -> dict[str, int]:
        allowed(request)
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "expected application/json")
        if int(request.headers.get("content-length") or MOST_BODY + 1) > MOST_BODY:
            raise HTTPException(413, f"at most {MOST_BODY} bytes")
        try:
            body = msgspec.json.decode(await request.body(), type=RequestBody)
        except msgspec.DecodeError as error:
            raise HTTPException(422, str(error)) from None
        if body.kind not in kinds:
            raise HTTPException(422, f"expected one of {', '.join(sorted(kinds))}")
        if body.kind == "publish" and body.model_id is None:
            raise HTTPException(422, "publish: name one of the camera's models")
        payload = {name: value for name in ("frames_per_window", "model_id") if (value := getattr(body, name))}
        try:
            number = await asyncio.to_thread(actions.ask, index, body.kind, body.camera, clock.now(), payload)
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        who = request.client.host if request.client else ""
        log.info("request_entered", request=number, kind=body.kind, camera=body.camera, client=who, **payload)
        return {"request": number}

    @app.get("/api/requests/{number}")
    def answered(number: Number) -> dict[str, Any]:
        answer = Requests(index).answered(number)
        return {"done": answer is not None, "ok": bool(answer and answer[0]), "answer": answer[1] if answer else ""}

    return allowed


class RequestBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/actions`."""

    kind: Kind
    camera: str
    frames_per_window: int | None = None
    model_id: str | None = None


def _capped(most: int) -> type[H11Protocol]:
    """Return the protocol with a cap on connections: each takes a file descriptor, which ingest needs for frames."""

    class Capped(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.abort()

    return Capped


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=family(host))
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"page.host, page.port: cannot listen on {in_url(host)}:{port}: {reason}") from error
