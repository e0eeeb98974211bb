"""An S3 server as a program: `python -m support.s3_server FOLDER [PORT]` prints its port.

The file `fault` of the folder makes it err: `503` in it answers every request so, and a number below 60 lets every
answer wait so many seconds, once what was asked is done. Each request that is made to wait leaves a line in `waiting`.

With a PORT it keeps what it answered for: the server itself has all in memory, so each change goes to the folder `kept`
before it is answered, and a new start does them all again.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

SLOWEST_S = 60

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Faulty:
    """The server's application, behind the fault that the file names."""

    def __init__(self, folder: Path, served: Application) -> None:
        self._fault, self._waiting = folder / "fault", folder / "waiting"
        self._served = served

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        told = float(self._fault.read_text()) if self._fault.exists() else 0.0
        if told >= SLOWEST_S:
            start(f"{told:.0f} Slow Down", [("Content-Length", "0")])
            return [b""]
        answer = self._served(environ, start)
        if told:
            with self._waiting.open("a") as waiting:
                waiting.write(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}\n")
            time.sleep(told)
        return answer


class Kept:
    """The server's application, whose changes outlive it, as `kept/NUMBER`: a line of JSON, and the body."""

    def __init__(self, folder: Path, served: Application) -> None:
        self._folder, self._served, self._one_at_a_time = folder / "kept", served, threading.Lock()
        self._folder.mkdir(exist_ok=True)
        self._count = 0
        for path in sorted(self._folder.glob("[0-9]*[0-9]")):
            environ, body = path.read_bytes().split(b"\n", 1)
            self._ask(json.loads(environ), body)
            self._count = int(path.name)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if environ["REQUEST_METHOD"] in ("GET", "HEAD") or {"partNumber", "uploads"} & set(asked):
            return self._served(environ, start)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        told = {name: value for name, value in environ.items() if isinstance(value, str)}
        with self._one_at_a_time:
            status, headers, answer = self._ask(told, body)
            if status.startswith("2"):
                if "uploadId" in asked:  # of parts that another start knows nothing of
                    told |= {"REQUEST_METHOD": "GET", "QUERY_STRING": "", "CONTENT_LENGTH": "0"}
                    _, _, body = self._ask(told, b"")
                    told |= {"REQUEST_METHOD": "PUT", "CONTENT_LENGTH": str(len(body))}
                self._keep(told, body)
        start(status, headers)
        return [answer]

    def _ask(self, told: dict[str, str], body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
        said: list[Any] = []
        environ = {
            **told,
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        answer = b"".join(self._served(environ, lambda *given: said.extend(given)))
        return said[0], said[1], answer

    def _keep(self, told: dict[str, str], body: bytes) -> None:
        self._count += 1
        path = self._folder / f"{self._count:08d}"
        partial = path.with_suffix(".partial")
        partial.write_bytes(json.dumps(told).encode() + b"\n" + body)
        partial.replace(path)


class Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    backend: Application = DomainDispatcherApplication(create_backend_app)
    served = Faulty(folder, Kept(folder, backend) if port else backend)
    server = make_server("127.0.0.1", port, served, threaded=True, request_handler=Silent)
    print(server.port, flush=True)
    server.serve_forever()
