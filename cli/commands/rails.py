"""`onebook rails`: what a developer needs of payment providers, without one. Play money only."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.output import Exit, fail, say, show_json

app = typer.Typer(
    help="Payment providers' simulators for developers: sim.", no_args_is_help=True, rich_markup_mode=None
)

Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0: any free one.")]


@app.callback()
def rails() -> None:
    """Payment providers' simulators for developers: sim."""


@app.command()
def sim(
    stripe_port: Port = 0,
    paypal_port: Port = 0,
    square_port: Port = 0,
    control_port: Port = 0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and requests give the same ids.")] = 1,
    clock: Annotated[
        str | None,
        typer.Option(help="An instant such as 2030-01-31T12:00:00Z at which the clock stands; none: it runs."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Simulate Stripe, PayPal and Square on loopback ports until Ctrl-C. They forget everything when it ends.

    Example: onebook rails sim --control-port 8600 --clock 2030-01-31T12:00:00Z
    """
    import asyncio
    import signal

    from railsim.house import House
    from railsim.server import Running

    house = House(seed=seed, start=None if clock is None else _instant(clock))
    ports = {"stripe": stripe_port, "paypal": paypal_port, "square": square_port, "control": control_port}
    try:
        running = Running(house, ports)
    except OSError as error:
        fail(f"a port can't be had: {error}; take another one, or 0 for any free one", Exit.UNAVAILABLE)
    shown = house.shown()
    if json:
        show_json(shown)
    else:
        for name, provider in shown["providers"].items():
            say(f"{name:8} {provider['base_url']}")
            for secret, value in provider.items():
                if secret not in ("base_url", "certificate_authority"):
                    say(f"  {secret:22} {value}")
        say(f"control  {shown['control_url']}  (all of this as JSON, with PayPal's certificate authority)")
        say("Ctrl-C ends it")
    sys.stdout.flush()  # who reads it from a pipe or a file waits for just that
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        asyncio.run(running.serve())


def _instant(told: str) -> datetime:
    with suppress(ValueError):
        found = datetime.fromisoformat(told)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    return fail(f"{told[:60]!r} is no instant with its zone, such as 2030-01-31T12:00:00Z", Exit.USAGE)
