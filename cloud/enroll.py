"""Enrollment: an edge's keys, its settings file and its first model, in one folder that works wherever it is carried.

A camera that comes to an enrolled edge later, or from another one, gets a folder too: its manifest beside the edge's
first model, and the table to paste into the settings. An edge has one file for the first model of all its cameras: what
comes later begins with that one too, whatever `[student]` says by then, and changes with its first round.

The folder is complete before the edge is entered in the index, all of it in one transaction: an enrollment cut short
leaves a folder that the index does not know, and can be repeated. One that is refused writes nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
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
from culling.cloud.store.index import Index, edges
from culling.cloud.store.keys import CloudKeys, keys_of
from culling.cloud.store.objects.places import model_files
from culling.cloud.store.registry import Artefact, Model, ModelFiles, Registry
from culling.cloud.store.registry import add as add_model
from culling.cloud.store.roster import add_camera, add_edge, check_free, check_new, move_camera, names_of
from culling.common.address import is_endpoint
from culling.common.atomic import write_atomic
from culling.common.clock import Clock
from culling.common.errors import ProtocolError, SettingsError, StorageError
from culling.common.progress import Say, say_nothing
from culling.common.wire.messages import MAX_CAMERAS, Identifier
from culling.common.wire.transport import new_keypair, public_key

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
    for camera in who.cameras:
        settings.set_of(camera)  # raises where it is in two sets of classes
    keys = keys_of(settings.service)
    index = Index(settings.store_url)
    with index.read() as connection:
        check_free(connection, who.edge, who.cameras, who.replace)
        _check_folder(connection, who, out)
    files = model_files(settings)
    publisher = _publisher(settings, index, files, clock)
    say("preparing the first model")
    base = _begun_with(index, files, who.cameras) or base_artefact(settings, files, say)
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


@dataclass(frozen=True)
class Newcomer:
    """A camera that an enrolled edge gets, and its address, if that is known."""

    camera: str
    edge: str
    url: str = URL_TO_FILL_IN


def add(settings: CloudSettings, who: Newcomer, out: Path, clock: Clock) -> Path:
    """Add a camera to an enrolled edge; return the table for the edge's settings, in `out` with what it needs.

    Raises SettingsError for names that cannot be used, ModelError for weights that cannot.
    """
    _check_names((who.camera,))
    settings.set_of(who.camera)
    index, files = Index(settings.store_url), model_files(settings)
    publisher = _publisher(settings, index, files, clock)
    try:
        with index.read() as connection:  # before the model is made, which may take minutes
            check_new(connection, who.camera, who.edge)
            others = names_of(connection, who.edge)
        base = _begun_with(index, files, (*sorted(others), who.camera)) or base_artefact(settings, files)
        model = _base(index, publisher, who.camera, base)
        _check_same_base(index, who, model)
        with index.write() as connection:
            add_camera(connection, who.camera, who.edge)
            toml = _write_camera(who, out, files, model)  # before the row is there to stay
            _add_base(connection, who.camera, model)
    finally:
        index.close()
    return toml


def move(settings: CloudSettings, who: Newcomer, out: Path, clock: Clock) -> Path:
    """Give a camera, with its models and frames, to another edge; return as `add` does.

    Raises SettingsError for names that cannot be used, ModelError when the camera's first model is gone.
    """
    index, files = Index(settings.store_url), model_files(settings)
    publisher = _publisher(settings, index, files, clock)
    try:
        known = Registry(index).models(who.camera)
        with index.write() as connection:
            move_camera(connection, who.camera, who.edge)
            if not known:
                raise SettingsError(f"camera {who.camera} has no first model: remove it, and add it to {who.edge}")
            model = publisher.signed(who.camera, 1, known[-1].artefact, "base")
            _check_same_base(index, who, model)
            toml = _write_camera(who, out, files, model)
    finally:
        index.close()
    return toml


def _publisher(settings: CloudSettings, index: Index, files: ModelFiles, clock: Clock) -> Publisher:
    keys = keys_of(settings.service)
    return Publisher(index, files, keys.signing, settings.publish.valid_days, clock)


def _begun_with(index: Index, files: ModelFiles, names: Sequence[str]) -> Artefact | None:
    """Return the first model of one of those cameras; None where they have none, or its file is gone."""
    for name in names:
        if (known := Registry(index).models(name)) and files.keeps(known[-1].artefact.sha256):
            return known[-1].artefact
    return None


def _check_same_base(index: Index, who: Newcomer, model: Model) -> None:
    """An edge has one file for the first model of all its cameras."""
    with index.read() as connection:
        others = names_of(connection, who.edge) - {who.camera}
    for other in sorted(others):
        known = Registry(index).models(other)
        if known and known[-1].artefact.sha256 != model.artefact.sha256:
            raise SettingsError(
                f"camera {other} of edge {who.edge} began with another base model than {who.camera}, and an edge has "
                "one file for all of them: enroll a second edge on that machine for this camera"
            )


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
    _check_names((who.edge, *who.cameras))


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
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
            f"camera {camera} began with another base model than the others of that edge, which has one file for all "
            "of them: choose another name for it, or enroll an edge of its own"
        )
    return publisher.signed(camera, 1, base, "base")


def _add_base(connection: sa.Connection, camera: str, model: Model) -> None:
    known = connection.execute(sa.text("SELECT 1 FROM models WHERE camera = :camera"), {"camera": camera}).first()
    if known is None:
        add_model(connection, camera, lambda counter: model)


def _write(
    who: Enrollment,
    out: Path,
    keys: CloudKeys,
    secret: str,
    files: ModelFiles,
    models: dict[str, Model],
) -> Path:
    student = _write_models(out, files, models)
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
    text = tomli_w.dumps(content) + "".join(f"\n{_table(camera, URL_TO_FILL_IN)}" for camera in who.cameras)
    toml = out / "edge.toml"
    if toml.exists():  # it may hold addresses, and settings that somebody wrote
        toml.replace(out / "edge.toml.old")
    write_atomic(toml, text.encode(), mode=0o600)
    return toml


def _check_folder(connection: sa.Connection, who: Enrollment, out: Path) -> None:
    """Raise SettingsError where a folder holds a kit that would be lost: its secret key is nowhere else."""
    toml = out / "edge.toml"
    if not toml.exists():
        return
    if not who.replace:
        raise SettingsError(f"{out} holds a kit already: name another folder with --out")
    try:
        key = public_key(tomllib.loads(toml.read_text())["cloud"]["secret_key"])
    except (OSError, ValueError, KeyError, TypeError, ProtocolError):  # no kit of ours: it is kept beside the new one
        return
    holder = connection.execute(sa.select(edges.c.name).where(edges.c.public_key == key)).scalar()
    if holder not in (None, who.edge):
        raise SettingsError(f"{out} holds the kit of edge {holder}: name another folder with --out")


def _write_camera(who: Newcomer, out: Path, files: ModelFiles, model: Model) -> Path:
    _write_models(out.resolve(), files, {who.camera: model})
    toml = out.resolve() / "camera.toml"
    write_atomic(toml, _table(who.camera, who.url).encode(), mode=0o600)  # its address may hold a password
    return toml


def _write_models(out: Path, files: ModelFiles, models: dict[str, Model]) -> Path:
    """Write the first model, the same for all cameras, and a manifest per camera; return the model's file."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {out}: {error.strerror}") from error
    student = out / "student.onnx"
    write_atomic(student, files.read(next(iter(models.values())).artefact.sha256))
    for camera, model in models.items():
        write_atomic(out / f"{student.stem}.{camera}.manifest", model.manifest)
    return student


def _table(camera: str, url: str) -> str:
    return f"[[camera]]\n{tomli_w.dumps({'name': camera, 'url': url})}"
