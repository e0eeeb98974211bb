"""The page, and the streams behind it: the fleet, live, and requests from holders of the token.

    GET  /                        the page, self-contained        GET  /api/rounds            rounds, newest first
    GET  /events                  changed rows, as they change    GET  /api/requests/ID       the answer to a request
    GET  /api/fleet               all rows                        POST /api/actions           a request, with a token
    GET  /api/alerts              what is wrong, and was          GET  /api/frames/ID         a hard frame's boxes
    GET  /api/cameras/NAME        one camera's day                GET  /api/frames/ID.jpg     a hard frame
    GET  /api/cameras/NAME/frames, .../models, .../day            its hard frames, its models, its day on one axis
    GET  /api/cameras/NAME/live   what it sees now (`live.py`); whoever asks looks, and its edge sends pictures
    GET  /api/rounds/ID/changed                                   where its students differ most (`changed.py`)
    GET, POST /api/cameras/NAME/review                            frames in dispute, and decisions (`review.py`)
    GET  /api/me, /api/deeds      who asks; who did what          GET  /api/openapi.json      all of this, for programs

It runs on its own thread inside the service, and only reads the index and what ingest holds; requests it enters in the
index, as the command line does (`access/acting.py`), and who looks live. It answers to known host names only and sends
no cookie. Who may see what, and act on it, `access/door.py` says: a dependency of every route.

Every address in it is relative, so that a proxy may serve it below any path (`page.root_path`). Of what a proxy adds to
a request, the client's address is believed, for the log, and only from `page.proxies`; and who asks, where a provider
has signed it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

import fastapi
import structlog
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from culling.cloud.control.said import Said
from culling.cloud.page import review, views
from culling.cloud.page.access import acting
from culling.cloud.page.access.door import Door, seen_by
from culling.cloud.page.access.person import Edges
from culling.cloud.page.access.places import cameras_of
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
from culling.cloud.store.roster import Told
from culling.common.address import family, http_url, in_url
from culling.common.clock import Clock
from culling.common.errors import InputError, SettingsError, StorageError
from culling.common.metrics import Metrics
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

LOOK_AGAIN_S = 60.0
"""A viewer whose token has ended, or who may see something else, is disconnected within this time."""

STOP_S = 5.0
"""A viewer that does not leave must not keep the service from ending within ten seconds."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
Limit = Annotated[int, Query(ge=1, le=200)]
FrameName = Annotated[str, fastapi.Path(pattern="^[0-9a-f]{32}$")]
Number = Annotated[int, fastapi.Path(ge=1, le=2**63 - 1)]


class Dashboard:
    """Serves from a thread of its own as soon as it is made; `url` is where.

    Raises SettingsError when the address cannot be listened on, or the provider's keys cannot be read.
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
        board = Board(index, latest, clock, settings)
        app = build_app(settings, index, frames, board, clock, metrics, page_token_of(settings))
        self._listener = _listen(page.host, page.port)
        port = self._listener.getsockname()[1]
        self.url = f"{http_url(page.host, port)}{page.root_path}"
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
    """Return the application; whoever carries `token` may do everything, if the settings allow requests at all."""
    door = Door(settings, index, clock, token)
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
        version=version("culling"),
        servers=[{"url": ".."}],  # as seen from `api/openapi.json`
        dependencies=[Depends(door.guard)],
        lifespan=lifespan,
        redirect_slashes=False,  # to an address that would be made from what a proxy says
        openapi_url=None,  # that route would be without the dependency
        docs_url=None,
        redoc_url=None,
    )
    page, policy = assemble("culling.cloud.page")
    _add_reads(app, settings, index, frames, board, clock)
    acting.add_routes(app, index, clock, door, settings.page.actions)
    review.add_routes(app, open_desk(settings, index, frames, clock), door)

    @app.get("/", summary="The page", response_class=HTMLResponse)
    async def show() -> Response:
        return HTMLResponse(page)

    @app.get("/events", summary="Rows of cameras as they change, as server-sent events", response_class=EventStream)
    async def events(request: Request) -> Response:
        seen = seen_by(request)
        return streams.open(seen, lambda: _still(door, request, seen))

    @app.get("/api/openapi.json", summary="This description, OpenAPI 3.1")
    def described() -> dict[str, Any]:
        return app.openapi()

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


class EventStream(Response):
    """Says in the description what a stream is."""

    media_type = "text/event-stream"


class Jpeg(Response):
    """Says in the description what a picture is."""

    media_type = "image/jpeg"


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

    def open(self, edges: Edges, still: Callable[[], bool]) -> Response:
        """Return a new stream of the cameras of some edges, or refuse it when there are too many.

        It ends when it is not `still` allowed.
        """
        if self._open >= self._most:
            raise HTTPException(
                503, f"{self._most} viewers are connected already: try again later", {"Retry-After": "5"}
            )
        self._open += 1
        return EventSourceResponse(
            self._watch(edges, still), ping=PING_S, ping_message_factory=self._ping, send_timeout=STALLED_S
        )

    def close(self) -> None:
        """End every stream."""
        self._closing = True
        self._wake()

    async def _watch(self, edges: Edges, still: Callable[[], bool]) -> AsyncIterator[bytes]:
        revision, looked = 0, self._clock.monotonic()
        try:
            while not self._closing:
                changed = self._changed
                if self._clock.monotonic() - looked > LOOK_AGAIN_S:
                    looked = self._clock.monotonic()
                    if not await asyncio.to_thread(still):
                        return
                if self._board.revision > revision or revision == 0:
                    revision, data = self._board.since(revision, edges)
                    yield b"event: fleet\r\ndata: " + data + b"\r\n\r\n"  # made once for all: it may be a megabyte
                await changed.wait()
        finally:
            self._open -= 1

    def _ping(self) -> ServerSentEvent:
        return ServerSentEvent(event="ping", data=f"{self._clock.now():.3f}")  # an event: pages hear no comments

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Ready(JSONResponse):
    """JSON that is encoded already."""

    def render(self, content: bytes) -> bytes:
        """Return it as it is."""
        return content


def _still(door: Door, request: Request, seen: Edges) -> bool:
    """Return whether who asked may still see the same."""
    try:
        return door.look(request).edges() == seen
    except HTTPException:
        return False


def _add_reads(
    app: FastAPI, settings: CloudSettings, index: Index, frames: FrameStore, board: Board, clock: Clock
) -> None:
    files = model_files(settings)

    @app.get("/api/fleet", summary="Every camera, as the stream tells it first")
    async def fleet(request: Request) -> JSONResponse:
        return Ready(board.since(0, seen_by(request)).data)

    @app.get("/api/alerts", summary="What is wrong now, and was lately")
    def wrong(request: Request) -> dict[str, list[dict[str, Any]]]:
        if (edges := seen_by(request)) is not None:  # what is wrong with the service may name any camera
            return board.watchman.alerts(cameras_of(index, edges))
        ringing, data_dir = board.watchman.alerts(), settings.data_dir
        ours = service_alerts(Said(index, settings).problem, shutil.disk_usage(data_dir).free, clock.now())
        return {**ringing, "now": [*ours, *ringing["now"]]}

    @app.get("/api/cameras/{name}", summary="One camera: its row, its day and what it costs")
    def camera(name: str) -> dict[str, Any]:
        return {**views.camera(index, name, clock.now()), "row": board.row(name)}

    @app.get("/api/cameras/{name}/frames", summary="Its stored frames with boxes, newest first")
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

    @app.get("/api/cameras/{name}/day", summary="Its last 24 hours on one axis")
    def whole_day(name: str) -> dict[str, Any]:
        return day(index, settings, name, clock.now())

    @app.get("/api/cameras/{name}/live", summary="What it sees now, for edges that allow it; whoever asks looks")
    def now(name: str, after: float = 0.0) -> dict[str, Any]:
        return live(index, settings, name, after, clock.now())

    @app.get("/api/cameras/{name}/models", summary="Its models, newest first")
    def models(name: str) -> list[dict[str, Any]]:
        return views.model_list(index, files, name)

    @app.get("/api/rounds", summary="Rounds, newest first")
    def rounds(request: Request, camera: str | None = None, limit: Limit = 20) -> list[dict[str, Any]]:
        of = None if (edges := seen_by(request)) is None else cameras_of(index, edges)
        return views.with_progress(views.rounds(index, camera, limit, of), Said(index, settings))

    @app.get("/api/rounds/{turn}/changed", summary="Where the students before and after a round differ most")
    def differing(turn: Number) -> dict[str, Any]:
        found = changed(index, settings, turn)
        if found is None:
            raise HTTPException(404, "no such round, or its gate kept nothing")
        return found

    @app.get("/api/frames/{frame}.jpg", summary="The picture of a frame", response_class=Jpeg)
    def picture(frame: FrameName) -> Response:
        found = views.picture(index, frame)
        try:
            data = None if found is None else frames.picture(found[0], frame, found[1])
        except LostError:
            data = None
        if data is None:
            raise HTTPException(404, "no such picture")
        return Jpeg(data, headers={"Cache-Control": "private, max-age=3600, immutable"})

    @app.get("/api/frames/{frame}", summary="A frame with its boxes")
    def boxes(frame: FrameName) -> dict[str, Any]:
        found = views.frame(index, settings, frame)
        if found is None:
            raise HTTPException(404, "no such frame")
        return found


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
