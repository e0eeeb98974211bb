"""The door of the page: who asks, whether that person may see what it asks for, and whether it may act there.

A request says who it is by a token in `X-Culling-Token` or `Authorization: Bearer`: the one in `page.token`, whose
holder may everything, or one that `culling cloud token create` made; else by what a proxy passes on that a provider
signed (`signed.py`). Whoever says nothing may look, where `[access]` lets anyone. What somebody may not see is answered
as if it were not there.

`guard` is a dependency of the whole application, so that no route is without it.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus

import structlog
from fastapi import HTTPException, Request

from culling.cloud.page.access.person import ANYONE, HOLDER, Edges, Person, person, right
from culling.cloud.page.access.places import EDGE_OF, edge_of
from culling.cloud.page.access.signed import RefusedError, Signed
from culling.cloud.settings import CloudSettings, Role
from culling.cloud.store.index import Index
from culling.cloud.store.people.deeds import Actor, Deed, Deeds
from culling.cloud.store.people.tokens import PREFIX, Tokens
from culling.common.clock import Clock
from culling.common.errors import InputError
from culling.common.page.access import own, token_of

log = structlog.get_logger(__name__)

WRONG = "wrong token: use the line in page.token of the data folder, or one of `culling cloud token create`"
READ_ONLY = "this page is read-only: set page.actions to allow requests, or use the command line"
ABSENT = {
    "frame": "no such frame",
    "turn": "no such round, or its gate kept nothing",
}
"""What is answered of what is not there; of a camera and a request, InputError says it."""


class Door:
    """Knows people by the settings and the index; `token` is the one in `page.token`.

    Raises SettingsError when the keys of the provider cannot be read.
    """

    def __init__(self, settings: CloudSettings, index: Index, clock: Clock, token: str) -> None:
        access = settings.access
        self.sites = settings.grouping
        self._settings = settings
        self._index = index
        self._clock = clock
        self._token = token
        self._tokens = Tokens(index)
        self._signed = None if access.keys is None else Signed(access, access.keys, self.sites)

    # Looking

    def guard(self, request: Request) -> None:
        """Let a request through, or raise what it is answered with; the person is in its state from then on."""
        request.state.person = person = self.look(request)
        if person.edges() is None:
            return
        for name, value in request.path_params.items():
            edge = EDGE_OF[name](self._index, value)
            if edge is None or not person.may("viewer", edge):
                raise _absent(request, name, value)

    def look(self, request: Request) -> Person:
        """Return who asks to see something. Raises HTTPException 401 or 403 where it may see nothing."""
        is_open, found = self._settings.access.is_open, None
        try:
            found = self.known(request)
        except RefusedError as error:
            if not is_open:
                raise self._refused(request, str(error)) from None
        if found is not None and found.rights:
            return found
        if is_open:
            return ANYONE
        if found is None:
            raise self._refused(request, "this page does not know you: sign in at its proxy, or send a token")
        raise HTTPException(HTTPStatus.FORBIDDEN, f"{found.who} is in no group that may look: see access.groups")

    def known(self, request: Request) -> Person | None:
        """Return whom a request says it is of, None where it says nothing. Raises RefusedError where that is wrong."""
        given, header = token_of(request.headers), self._settings.access.header
        ours = "x-culling-token" in request.headers or (given is not None and self._is_ours(given))
        if self._signed is not None and not ours:
            said = (given or "") if header.lower() == "authorization" else _bare(request.headers.get(header, ""))
            if said:
                return self._signed.person(said)
        return None if given is None else self._holder(given)

    def _is_ours(self, given: str) -> bool:
        return given.startswith(PREFIX) or hmac.compare_digest(given.encode(), self._token.encode())

    def _holder(self, given: str) -> Person:
        if hmac.compare_digest(given.encode(), self._token.encode()):
            return HOLDER
        found = self._tokens.find(given, self._clock.now()) if given.startswith(PREFIX) else None
        if found is None:
            raise RefusedError(WRONG)
        return person(f"token {found.name}", "token", [right(found.role, found.sites, self.sites)])

    # Acting

    def act(self, request: Request) -> Actor:
        """Return who asks to act, or raise HTTPException; `on` says whether it may do so on a camera."""
        if not self._settings.page.actions:
            raise HTTPException(HTTPStatus.FORBIDDEN, READ_ONLY)
        try:
            found = self.known(request)
        except RefusedError as error:
            raise self._refused(request, str(error)) from None
        if found is None:
            raise self._refused(request, WRONG)
        origin = request.headers.get("origin")
        if origin is not None and not own(origin, request.headers.get("host", ""), self._settings.page.names):
            raise HTTPException(HTTPStatus.FORBIDDEN, "requests from another site's page are refused")
        request.state.person = found
        return found.at(address(request))

    def on(self, request: Request, camera: str, action: str, role: Role = "operator") -> None:
        """Raise HTTPException where who acts has not the role on a camera, InputError where it does not see it."""
        asks, edge = person_of(request), edge_of(self._index, camera)
        if asks.may(role, edge):
            return
        if edge is None or not asks.may("viewer", edge):
            raise InputError(f"there is no camera {camera}: see `culling cloud status`")
        why = f"{asks.who} may look at {camera}, and not act on it: that needs the role {role}"
        deed = Deed(asks.at(address(request)), action, camera, "refused", {"why": why})
        Deeds(self._index).add(deed, self._clock.now())
        raise HTTPException(HTTPStatus.FORBIDDEN, why)

    def _refused(self, request: Request, why: str) -> HTTPException:
        log.warning("request_refused", client=address(request), reason=why)
        return HTTPException(HTTPStatus.UNAUTHORIZED, why)


def _bare(said: str) -> str:
    """Return a token without the word that may stand before it."""
    scheme, _, rest = said.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else said.strip()


def person_of(request: Request) -> Person:
    """Return who asks, once the door has let it in."""
    found: Person = request.state.person
    return found


def seen_by(request: Request) -> Edges:
    """Return the edges that who asks may see."""
    return person_of(request).edges()


def address(request: Request) -> str:
    """Return the address of who asks, as a proxy says it if it is one of `page.proxies`."""
    return request.client.host if request.client else ""


def _absent(request: Request, name: str, value: str) -> Exception:
    """Return what is answered where something is not there."""
    if name == "name":
        return InputError(f"there is no camera {value}: see `culling cloud status`")
    if name == "request_id":
        return InputError(f"there is no request {value}")
    picture = request.url.path.endswith(".jpg")
    return HTTPException(HTTPStatus.NOT_FOUND, "no such picture" if picture else ABSENT[name])
