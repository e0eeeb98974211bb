"""`culling cloud token` and `audit`: tokens of programs that speak to the page's API, and who did what."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from culling.cloud.operate import AsJson, ConfigFile, Overrides, print_table, settings_of
from culling.cloud.settings import CloudSettings, Role
from culling.cloud.store.index import Index
from culling.cloud.store.people.deeds import Deeds, operator
from culling.cloud.store.people.tokens import Token, Tokens
from culling.cloud.store.roster import Roster
from culling.common.clock import DAY_S
from culling.common.errors import InputError

app = typer.Typer(help="Create, list and revoke tokens for the page's API.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What the token is called: who uses it, for example.")]


def add_commands(parent: typer.Typer) -> None:
    """Add both to the commands of `culling cloud`."""
    parent.add_typer(app, name="token")
    parent.command(epilog="Example: culling cloud audit --since 2026-11-01")(audit)


@app.command(epilog="Example: culling cloud token create night-shift --role operator --site yard --days 30")
def create(
    name: Name,
    role: Annotated[Role, typer.Option(help="What it may: look; act, too; see who did what, too.")] = "viewer",
    site: Annotated[
        list[str] | None, typer.Option(metavar="SITE", help="Where; repeatable.", show_default="everywhere")
    ] = None,
    days: Annotated[float, typer.Option(min=0.001, max=3660, help="For how long it holds.")] = 90.0,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Make a token, and print it once: only its hash is kept."""
    settings = settings_of(config, override)
    index, now = Index(settings.store_url), time.time()
    _check_sites(settings, index, site or [])
    print(Tokens(index).create(name, role, site or [], operator(), now, now + days * DAY_S))


@app.command("list", epilog="Example: culling cloud token list")
def list_tokens(config: ConfigFile = None, as_json: AsJson = False, override: Overrides = None) -> None:
    """Show every token that was made, newest first, without the tokens themselves."""
    found = Tokens(Index(settings_of(config, override).store_url)).all()
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    print_table([_token_columns(one, time.time()) for one in found], "no token was made yet")


@app.command(epilog="Example: culling cloud token revoke night-shift")
def revoke(name: Name, config: ConfigFile = None, override: Overrides = None) -> None:
    """End a token at once; a stream that it opened ends within a minute."""
    Tokens(Index(settings_of(config, override).store_url)).revoke(name, operator(), time.time())
    print(f"token {name} is revoked")


def audit(
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only what was done since, e.g. 2026-11-01 or with a time.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 50,
    config: ConfigFile = None,
    as_json: AsJson = False,
    override: Overrides = None,
) -> None:
    """Show who did what, newest first: by command, on the page, and over its API."""
    settings = settings_of(config, override)
    rows = Deeds(Index(settings.store_url)).all(0.0 if since is None else _time(since), limit)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print_table([_deed_columns(row) for row in rows], "nothing was done yet")


def _check_sites(settings: CloudSettings, index: Index, sites: list[str]) -> None:
    known = {settings.grouping.of(row.edge) for row in Roster(index).rows()} | set(settings.grouping.named)
    for site in sites:
        if site not in known:
            there = ", ".join(sorted(known - {""})) or "none"
            raise InputError(f"there is no site {site}: there are {there} (settings, [sites], and edges of none)")


def _time(text: str) -> float:
    """Return a date or a time, local unless it says otherwise, as seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise InputError(f"--since {text}: expected a date such as 2026-11-01, or 2026-11-01T08:30") from None


def _token_columns(token: Token, now: float) -> dict[str, str]:
    state = "revoked" if token.revoked is not None else "over" if token.expires <= now else "in use"
    made, until = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" for at in (token.created, token.expires))
    sites = ", ".join(token.sites) or "everywhere"
    return {
        "name": token.name,
        "role": token.role,
        "sites": sites,
        "is": state,
        "made": made,
        "by": token.creator,
        "until": until,
    }


def _deed_columns(row: dict[str, Any]) -> dict[str, str]:
    return {
        "at": f"{datetime.fromtimestamp(row['at'], UTC):%Y-%m-%d %H:%M:%S}",
        "who": row["who"] + (f", {row['address']}" if row["address"] else ""),
        "action": row["action"],
        "camera": row["camera"] or "",
        "outcome": row["outcome"],
        "what": row["answer"] or ", ".join(f"{key} {value}" for key, value in row["what"].items()),
    }
