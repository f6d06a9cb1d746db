"""`waypost oauth`: somebody logs in at a provider, and the service may send in his name from then on.

The tokens go into the spool, encrypted; a running service notices by itself, and lets go of what it held. Not here:
what is said to a token server (waypost.auth.oauth).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

import typer
from aiohttp import web
from rich.text import Text

from waypost.admin.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, err, fail, show
from waypost.admin.words import when
from waypost.auth.keeper import AuthorisationState, Keeper
from waypost.auth.oauth import Answer, Authorisation, Denied, DeviceCode, NoAnswer, Tokens, TokenServer
from waypost.auth.tokens import Live, TokenStore, TokenStoreError
from waypost.config import Config
from waypost.net.clock import Clock, SystemClock

#: How long a browser may take to come back.
PATIENCE: Final = 600.0
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The [[oauth]]'s name.")]


def oauth_login(
    name: NameArgument,
    flow: Annotated[
        Literal["", "device", "code"],
        typer.Option(
            "--flow", help="device: type a code elsewhere; code: a browser on this machine. Else what there is."
        ),
    ] = "",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="For --flow code: where the browser comes back.")
    ] = 0,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002 - a flag of the CLI
) -> None:
    """Log in at a provider, so that the service gets access tokens.

    Example: waypost oauth login microsoft
    """
    found = configured(config, as_json_value=json)
    who = _authorisation(found, name, json=json)
    store = _store(found, json=json)
    clock = SystemClock()
    answer = asyncio.run(_log_in(who, flow or ("device" if who.device_url else "code"), port, clock))
    match answer:
        case Tokens():
            _keep(store, name, answer, json=json)
            show({"name": name, "alive": True}, lambda _: [Text(f"{name} is authorised.")], as_json_value=json)
        case Denied():
            fail(f"no token was granted: {answer}", "nothing was changed; try again", as_json_value=json)
        case NoAnswer(why):
            fail(why, "nothing was changed; try again", as_json_value=json)


def oauth_status(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="This one alone.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Tell how the authorisations stand; exit code 0: all are good.

    Example: waypost oauth status
    """
    found = configured(config, as_json_value=json)
    names = [_authorisation(found, name, json=json).name] if name else list(found.oauth.by_name)
    clock = SystemClock()
    keeper = Keeper(found.oauth.by_name, _store(found, json=json), TokenServer(clock), clock)
    states = [state for state in keeper.read() if state.name in names]
    show(states, lambda said: [_worded(state, clock) for state in said], as_json_value=json)
    raise typer.Exit(0 if all(state.is_alive for state in states) else 1)


def oauth_commands() -> typer.Typer:
    """The group `waypost oauth`."""
    app = typer.Typer(help="Log in at providers of smart hosts that take OAuth tokens.", no_args_is_help=True)
    app.command("login")(oauth_login)
    app.command("status")(oauth_status)
    return app


# ---- what they share
def _authorisation(config: Config, name: str, *, json: bool) -> Authorisation:
    if name not in config.oauth.by_name:
        known = ", ".join(config.oauth.by_name) or "none"
        fail(f"there is no [[oauth]] named {name}", f"there are: {known}", as_json_value=json)
    return config.oauth.by_name[name]


def _store(config: Config, *, json: bool) -> TokenStore:
    try:
        config.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        return config.oauth.store(make_key=True)
    except (TokenStoreError, OSError) as error:
        problem, _, remedy = str(error).partition("; ")
        fail(problem, remedy or "see [auth] token_key_file", as_json_value=json)


def _keep(store: TokenStore, name: str, tokens: Tokens, *, json: bool) -> None:
    try:
        store.save(name, Live(tokens))
    except TokenStoreError as error:
        fail(str(error), "log in again once that is mended", as_json_value=json)


def _worded(state: AuthorisationState, clock: Clock) -> Text:
    if not state.is_alive:
        return Text(f"{state.name}: not authorised: {state.why}", style="red")
    days = state.days(clock.now())
    until = f"; somebody has to log in again in {days:.1f} days" if days < 1e6 else ""
    return Text(f"{state.name}: authorised; the token ends at {when(state.token_ends_at)} and is renewed before{until}")


# ---- the two ways to log in
async def _log_in(who: Authorisation, flow: str, port: int, clock: Clock) -> Answer:
    server = TokenServer(clock)
    if who.grant == "client":
        return await server.as_client(who)
    if flow == "device":
        if not who.device_url:
            return NoAnswer(f"{who.name} has no device_url: use --flow code")
        code = await server.ask_device(who)
        if not isinstance(code, DeviceCode):
            return code
        err().print(Text(f"Open {code.url} anywhere, and type {code.user_code} there."))
        return await server.wait_for_device(who, code)
    if not who.authorize_url:
        return NoAnswer(f"{who.name} has no authorize_url: use --flow device")
    return await _by_browser(server, who, port)


async def _by_browser(server: TokenServer, who: Authorisation, port: int) -> Answer:
    """Wait on loopback for the browser that comes back with a code (RFC 8252 §7.3)."""
    came: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.Response:
        if not came.done() and {"code", "error"} & request.query.keys():
            came.set_result(dict(request.query))
        return web.Response(text="Waypost has what it needs; you may close this window.\n")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        request = server.ask_code(who, f"http://127.0.0.1:{runner.addresses[0][1]}/")
        err().print(Text(f"Open this address in a browser on this machine:\n{request.url}"))
        said = await asyncio.wait_for(came, PATIENCE)
    except TimeoutError:
        return NoAnswer("no browser came back in time")
    except OSError as error:
        return NoAnswer(f"no port to wait at: {error.strerror}")
    finally:
        await runner.cleanup()
    if said.get("state") != request.state:
        return NoAnswer("the browser brought another login's answer")
    if "code" not in said:
        return Denied(said["error"], said.get("error_description", ""))
    return await server.redeem(who, request, said["code"])
