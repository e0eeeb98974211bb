"""The TLS of outputs that connect out: certificates are always checked, by the system's trust or a file."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

from culling.common.errors import SettingsError
from culling.edge.output.settings import OutputSettings

T = TypeVar("T")


def tls_context(settings: OutputSettings) -> ssl.SSLContext:
    """Return what to connect with. Raises SettingsError for a file that cannot be used, with its key."""
    context = _with("ca_file", settings, lambda: ssl.create_default_context(cafile=settings.ca_file))
    if settings.cert_file is not None:
        cert = settings.cert_file
        _with("cert_file", settings, lambda: context.load_cert_chain(cert, settings.key_file))
    return context


def _with(key: str, settings: OutputSettings, load: Callable[[], T]) -> T:
    try:
        return load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "strerror", None) or "it holds no certificate"
        raise SettingsError(f"output {settings.name}: {key}: {getattr(settings, key)}: {reason}") from None


def why(error: Exception) -> str:
    """Return in a few words why a connection failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}): set ca_file"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
