"""`onebook demo`."""

from typing import Annotated

import typer

from base.children import end_with_parent
from chain.local import NodeKind


def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="Leave when the story has been played.")] = False,
    kind: Annotated[
        NodeKind, typer.Option(help="The first local chain's node; the second is an anvil.")
    ] = NodeKind.HARDHAT,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Only remove what demos left behind.")] = False,
) -> None:
    """Play a real journey on a new book, new keys and two new chains; then stay up until Ctrl-C.

    Example: onebook demo --exit --kind anvil
    """
    from cli.demo import run_demo, wipe

    if clean:
        wipe()
        return
    if with_parent:  # `make` may be killed, and nobody else would end us then
        end_with_parent()
    raise typer.Exit(run_demo(exit_after=exit_, kind=kind))
