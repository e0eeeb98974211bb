"""Enrollment: an edge's keys, its settings file and its first model, in one folder that works wherever it is carried.

The folder is complete before the edge is entered in the index, all of it in one transaction: an enrollment cut short
leaves a folder that the index does not know, and can be repeated. One that is refused writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import sqlalchemy as sa
import tomli_w
from sqlalchemy.exc import IntegrityError

from culling.cloud.control.publish import Publisher
from culling.cloud.model.base import base_artefact
from culling.cloud.page import views
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index
from culling.cloud.store.keys import CloudKeys, load_keys
from culling.cloud.store.registry import Artefact, Model, ModelFiles, Registry, add
from culling.cloud.store.roster import add_edge, check_free
from culling.common.address import is_endpoint
from culling.common.atomic import write_atomic
from culling.common.clock import Clock
from culling.common.errors import SettingsError, StorageError
from culling.common.progress import Say, say_nothing
from culling.common.wire.messages import MAX_CAMERAS, Identifier
from culling.common.wire.transport import new_keypair

URL_TO_FILL_IN = "rtsp://user:password@camera.local/stream"


@dataclass(frozen=True)
class Enrollment:
    """What to enroll: an edge's name, its cameras, and the address at which it reaches the service."""

    edge: str
    cameras: tuple[str, ...]
    endpoint: str
    replace: bool = False


def enroll(settings: CloudSettings, who: Enrollment, out: Path, clock: Clock, say: Say = say_nothing) -> Path:
    """Enroll an edge and return its settings file, in `out` with the first model and a manifest per camera.

    Raises SettingsError for names or an address that cannot be used, ModelError for weights that cannot.
    """
    _check(who)
    keys = load_keys(settings.data_dir)
    index = Index(settings.store_url)
    with index.read() as connection:
        check_free(connection, who.edge, who.cameras, who.replace)
    files = ModelFiles(settings.data_dir / "models")
    publisher = Publisher(index, files, keys.signing, settings.publish.valid_days, clock)
    say("preparing the first model")
    base = base_artefact(settings, files, say)
    public, secret = new_keypair()
    models = {camera: _base(index, publisher, camera, base) for camera in who.cameras}
    toml = _write(who, out.resolve(), keys, secret, files, models)
    try:
        with index.write() as connection:
            add_edge(connection, who.edge, public, who.cameras, clock.now(), who.replace)
            for camera, model in models.items():
                _add_base(connection, camera, model)
    except IntegrityError:
        raise SettingsError(f"edge {who.edge} or its cameras were enrolled by another command just now") from None
    finally:
        index.close()
    return toml


def endpoint_for_edges(settings: CloudSettings, given: str | None) -> str:
    """Return the address that edges are told: the one `given`, else the service's own.

    Raises SettingsError when that is not an address that an edge can use.
    """
    endpoint = given or settings.service.endpoint
    if given is None and endpoint.endswith(":0"):
        endpoint = views.endpoint(settings.data_dir) or ""
        if not endpoint:
            raise SettingsError("service.endpoint has port 0: start the service first, or give --endpoint")
    if any(wildcard in endpoint for wildcard in ("//*", "//0.0.0.0", "//[::]")):
        raise SettingsError(f"edges cannot connect to {endpoint}: give --endpoint tcp://HOST:PORT")
    if not is_endpoint(endpoint):
        raise SettingsError(f"--endpoint {endpoint}: expected tcp://HOST:PORT, an IPv6 address in brackets")
    return endpoint


def _check(who: Enrollment) -> None:
    if not 1 <= len(who.cameras) <= MAX_CAMERAS or len(set(who.cameras)) != len(who.cameras):
        raise SettingsError(f"an edge has 1 to {MAX_CAMERAS} cameras, each with its own name")
    for name in (who.edge, *who.cameras):
        try:
            msgspec.convert(name, Identifier)
        except msgspec.ValidationError:
            raise SettingsError(
                f"{name!r} is not a valid name: use letters, digits, dots, dashes and underscores, at most 64"
            ) from None


def _base(index: Index, publisher: Publisher, camera: str, base: Artefact) -> Model:
    """Return the first model of a camera, number one; signed today, for the old manifest may have expired."""
    known = Registry(index).models(camera)
    if known and known[-1].artefact.sha256 != base.sha256:
        raise SettingsError(
            f"camera {camera} was enrolled with another base model: restore [student] weights, or choose another name"
        )
    return publisher.signed(camera, 1, base, "base")


def _add_base(connection: sa.Connection, camera: str, model: Model) -> None:
    known = connection.execute(sa.text("SELECT 1 FROM models WHERE camera = :camera"), {"camera": camera}).first()
    if known is None:
        add(connection, camera, lambda counter: model)


def _write(
    who: Enrollment,
    out: Path,
    keys: CloudKeys,
    secret: str,
    files: ModelFiles,
    models: dict[str, Model],
) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {out}: {error.strerror}") from error
    student = out / "student.onnx"
    write_atomic(student, files.read(next(iter(models.values())).artefact.sha256))
    for camera, model in models.items():
        write_atomic(out / f"student.{camera}.manifest", model.manifest)
    content = {
        "agent": {"state_dir": "state"},
        "cloud": {
            "endpoint": who.endpoint,
            "server_key": keys.curve_public,
            "secret_key": secret,
            "signing_keys": [keys.signing_public],
        },
        "student": {"initial": student.name},
    }
    tables = [tomli_w.dumps({"name": camera, "url": URL_TO_FILL_IN}) for camera in who.cameras]
    text = tomli_w.dumps(content) + "".join(f"\n[[camera]]\n{table}" for table in tables)
    toml = out / "edge.toml"
    write_atomic(toml, text.encode(), mode=0o600)
    return toml
