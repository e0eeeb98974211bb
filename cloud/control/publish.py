"""Signing: from an artefact to a model that edges accept, with a counter that only rises.

A rollback is a publication too: the earlier bytes under a new counter, because edges never accept an older one.

A student that is new to its camera may have to run beside the live one first (`[waves] shadow`); what is gone back to
was live before, and is live at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.cloud.store.index import Index, cameras, models, rounds
from culling.cloud.store.registry import Artefact, Model, ModelFiles, Origin, Registry, add, revoke
from culling.cloud.store.rounds import UNFINISHED
from culling.cloud.store.waves.alike import alike, live_of
from culling.cloud.store.waves.shadows import end_shadow
from culling.cloud.store.waves.trials import enter, go_on
from culling.common.clock import DAY_S, Clock
from culling.common.errors import InputError
from culling.common.wire.manifest import Manifest, sign
from culling.common.wire.messages import CameraState

log = structlog.get_logger(__name__)


class SupersededError(InputError):
    """Another model went live while a round was made, so that nothing shows the round's model to be better."""


Then = Callable[[sa.Connection, Model], None]


def _nothing(connection: sa.Connection, model: Model) -> None:
    pass


def _any(connection: sa.Connection, model_id: str | None) -> None:
    pass


class Publisher:
    """Makes models live. Safe to use from several threads and processes."""

    def __init__(
        self,
        index: Index,
        files: ModelFiles,
        key: Ed25519PrivateKey,
        valid_days: float,
        clock: Clock,
        shadows: bool = False,
    ) -> None:
        self._index = index
        self._registry = Registry(index)
        self._files = files
        self._key = key
        self._valid_s = valid_days * DAY_S
        self._clock = clock
        self._shadows = shadows

    def keeps(self, artefact: Artefact) -> bool:
        """Return whether a model's file is still stored, so that it can be published."""
        return self._files.keeps(artefact.sha256)

    def publish(
        self,
        camera: str,
        artefact: Artefact,
        origin: Origin,
        round_id: int | None = None,
        then: Then = _nothing,
        first: Callable[[sa.Connection], None] = lambda connection: None,
        shadow: Callable[[sa.Connection], bool] = lambda connection: False,
    ) -> Model:
        """Sign `artefact` for a camera and make it live, or a `shadow`; all that is given belongs to one transaction.

        Raises ModelError when its file is gone or damaged, ManifestError when it cannot be signed.
        """
        self._files.read(artefact.sha256)

        def make(counter: int) -> Model:
            return self.signed(camera, counter, artefact, origin, round_id)

        with self._index.write() as connection:
            first(connection)
            model = add(connection, camera, make, shadow(connection))
            then(connection, model)
        told = {"model_id": model.model_id, "origin": origin, "scale": artefact.scale, "state": model.state}
        log.info("model_published", camera=camera, **told)
        return model

    def launch(
        self,
        camera: str,
        artefact: Artefact,
        origin: Origin,
        round_id: int | None = None,
        then: Then = _nothing,
        first: Callable[[sa.Connection], None] = lambda connection: None,
    ) -> Model:
        """As `publish`, for a student that is new to its camera: it runs beside the live one first where the settings
        say so and the camera can (`unshadowed`), and its trial begins.
        """

        def enter_trial(connection: sa.Connection, model: Model) -> None:
            then(connection, model)
            if model.state == "shadow" and (live := live_of(connection, camera)) is not None:
                enter(connection, camera, model.model_id, live, model.created)

        return self.publish(camera, artefact, origin, round_id, enter_trial, first, self.shadowed(camera))

    def shadowed(self, camera: str) -> Callable[[sa.Connection], bool]:
        """Return what says, in a transaction, whether a student that is new to a camera runs beside the live one."""

        def can(connection: sa.Connection) -> bool:
            if not self._shadows:
                return False
            if why := unshadowed(connection, camera):
                log.info("shadow_left_out", camera=camera, reason=why)
            return not why

        return can

    def publish_round(
        self, round_id: int, camera: str, artefact: Artefact, replaced: str | None = None, origin: Origin = "round"
    ) -> Model:
        """Publish what a round made, or found in the zoo, and end it with that: neither can be lost or done twice.

        `replaced` is the model that the round's gate found no better than the one before it: nobody goes back to it.
        Raises SupersededError when the live model is another one than the round's was judged against, and when the
        round is over: another service ended it.
        """

        def judged_against_live(connection: sa.Connection) -> None:
            state = connection.execute(sa.select(rounds.c.state).where(rounds.c.id == round_id)).scalar()
            if state not in UNFINISHED:
                raise SupersededError(f"round {round_id} is over already: it is {state}")
            beside = connection.execute(_hashes(camera, models.c.state == "shadow")).first()
            if beside is not None:
                raise SupersededError(f"{beside.model_id} began to run beside the live model during the round")
            if artefact.parent is None:
                return
            parent = connection.execute(_hashes(camera, models.c.model_id == artefact.parent)).first()
            for live in connection.execute(_hashes(camera, models.c.state == "live")):
                if parent is None or live.sha256 != parent.sha256:  # renewed, a model has another id and the same bytes
                    found = f"{live.model_id} went live during the round, which was judged against {artefact.parent}"
                    raise SupersededError(f"{found}: the next round starts from it")

        def end(connection: sa.Connection, model: Model) -> None:
            ended = {"state": "published", "finished": model.created, "model_id": model.model_id}
            connection.execute(rounds.update().where(rounds.c.id == round_id).values(**ended))
            before = (models.c.camera == camera) & (models.c.state == "previous") & (models.c.model_id == replaced)
            connection.execute(models.update().where(before).values(state="revoked"))

        # Where the live model itself was found no better than the one before it, nothing is to be compared with it.
        launch = self.launch if replaced is None else self.publish
        return launch(camera, artefact, origin, round_id, end, judged_against_live)

    def rollback(self, camera: str) -> Model:
        """Make the bytes of the model before the live one live again; the live one is revoked.

        Raises InputError if there is no earlier model.
        """
        return self._go_back(camera, self._registry.fallback(camera).artefact, _any)

    def take_back(self, camera: str, withdrawn: str, earlier: Artefact) -> Model:
        """Make `earlier` live again in the place of the model `withdrawn`, which is revoked, whether it was renewed.

        Raises SupersededError when that is no longer the live one.
        """

        def still_live(connection: sa.Connection, found: str | None) -> None:
            if found not in alike(connection, camera, withdrawn):
                raise SupersededError(f"{withdrawn} is not taken back: {found} went live meanwhile")

        return self._go_back(camera, earlier, still_live)

    def _go_back(self, camera: str, earlier: Artefact, allowed: Callable[[sa.Connection, str | None], None]) -> Model:
        """Make `earlier` live again; what is live, and is `allowed` to be gone back from, is revoked."""
        left: list[str | None] = []

        def note(connection: sa.Connection) -> None:
            left.append(live_of(connection, camera))
            allowed(connection, left[-1])

        def end(connection: sa.Connection, model: Model) -> None:
            revoke(connection, camera, left[-1])

        return self.publish(camera, earlier, "rollback", None, end, note)

    def renew(self, camera: str) -> Model:
        """Publish the live model again under the next counter, for an edge that has accepted a higher one than its own.

        What runs beside it is signed anew as well, since that edge accepts no lower counter any more, and its trial
        goes on. Raises InputError if there is no live model.
        """
        known = self._registry.models(camera)
        if (live := next((model for model in known if model.state == "live"), None)) is None:
            raise InputError(f"camera {camera} has no live model")
        beside: list[Model] = []

        def retire_shadow(connection: sa.Connection) -> None:
            mine = [model for model in known if model.state == "shadow"]
            beside.extend(one for one in mine if end_shadow(connection, camera, one.model_id, "retired"))

        def sign_shadow(connection: sa.Connection, model: Model) -> None:
            for old in beside:
                again = add(connection, camera, partial(self._again, old), shadow=True)
                go_on(connection, camera, old.model_id, again.model_id, model.model_id)

        return self.publish(camera, live.artefact, "rollback", None, sign_shadow, retire_shadow)

    def renew_shadow(self, camera: str, model_id: str) -> Model:
        """Sign what is to run beside the live model anew, for an edge that did not take it before it expired.

        Its trial goes on. Raises SupersededError when it is not to run there any more.
        """
        known = {model.model_id: model for model in self._registry.models(camera)}
        with self._index.write() as connection:
            if model_id not in known or not end_shadow(connection, camera, model_id, "retired"):
                raise SupersededError(f"{model_id} does not run beside the live model any more: it is not signed anew")
            again = add(connection, camera, partial(self._again, known[model_id]), shadow=True)
            go_on(connection, camera, model_id, again.model_id)
        log.info("shadow_renewed", camera=camera, model_id=again.model_id, renewed=model_id)
        return again

    def _again(self, model: Model, counter: int) -> Model:
        return self.signed(model.camera, counter, model.artefact, model.origin, model.round)

    def signed(self, camera: str, counter: int, artefact: Artefact, origin: str, round_id: int | None = None) -> Model:
        """Return `artefact` as the camera's model of that counter, with its signed manifest."""
        now = self._clock.now()
        manifest = Manifest(
            model_id=f"{camera[:48]}-{counter}",
            camera=camera,
            counter=counter,
            sha256=artefact.sha256,
            size=artefact.size,
            scale=artefact.scale,
            long_side=artefact.long_side,
            classes=artefact.classes,
            parent=artefact.parent,
            created=now,
            expires=now + self._valid_s,
            golden=artefact.golden,
            ranker=artefact.ranker,
        )
        return Model(
            camera=camera,
            counter=counter,
            model_id=manifest.model_id,
            state="live",
            origin=origin,
            round=round_id,
            created=now,
            expires=manifest.expires,
            artefact=artefact,
            manifest=sign(manifest, self._key),
        )


def unshadowed(connection: sa.Connection, camera: str) -> str:
    """Return why no student can run beside the live one of a camera, "" where one can."""
    told = connection.execute(sa.select(cameras.c.state).where(cameras.c.name == camera)).scalar()
    state = None if told is None else msgspec.json.decode(told, type=CameraState)
    if state is None:
        return "its edge never spoke"
    if state.shadow is None:
        return "its edge knows no shadows: upgrade culling there"
    if state.model_id != (live := live_of(connection, camera)):
        return f"its edge runs {state.model_id} and not {live} yet"
    return ""


def _hashes(camera: str, which: sa.ColumnElement[bool]) -> sa.Select[tuple[str, str]]:
    return sa.select(models.c.model_id, models.c.sha256).where(models.c.camera == camera, which)
