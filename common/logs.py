"""Logging: coloured lines on a terminal, JSON lines elsewhere, and never a password."""

from __future__ import annotations

import logging
import re
import sys
import threading
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = ("debug", "info", "warning", "error")

_USERINFO = re.compile(r"(?<=://)\S*@")
_QUERY_SECRET = re.compile(r"(?i)([?&](?:\w*(?:pass|pwd|token|secret|auth|key|sig)\w*)=)[^\s&#'\"]*")


def redact(text: str) -> str:
    """Return `text` with the credentials of every URL in it replaced by `***`.

    Both `user:password@` and query values such as `?token=…` are replaced. Everything up to the last `@` of a word
    with `://` counts as credentials, because a camera's password may hold `/` and `@` unescaped.
    """
    return _QUERY_SECRET.sub(r"\1***", _USERINFO.sub("***@", text))


def setup(level: str = "info", json: bool | None = None) -> None:
    """Send every log event, ours and the libraries', to stderr at `level` (one of `LEVELS`).

    Uncaught tracebacks of any thread go the same way, because they can repeat a camera's URL.
    `json` None means JSON unless stderr is a terminal. May be called again; the last call wins.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact_event,
                _renderer(json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):  # somebody ended it, perhaps before it could take signals
        structlog.get_logger(__name__).error("process_crashed", exc_info=(kind, error, trace))


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is None or issubclass(crash.exc_type, SystemExit):
        return
    name = crash.thread.name if crash.thread else ""
    info = (crash.exc_type, crash.exc_value, crash.exc_traceback)
    structlog.get_logger(__name__).error("thread_crashed", thread=name, exc_info=info)


def _renderer(json: bool | None) -> Processor:
    if json if json is not None else not sys.stderr.isatty():
        return structlog.processors.JSONRenderer(default=str)
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: _redact_value(value) for key, value in event.items()}


def _redact_value(value: Any) -> Any:
    """Redact every string in `value`; what is neither a plain value nor a collection becomes its redacted `str`."""
    match value:
        case bool() | int() | float() | None:
            return value
        case dict():
            return {redact(str(key)): _redact_value(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redact_value(item) for item in value]
        case _:
            return redact(str(value))
