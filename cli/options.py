"""Options that many commands have, said once."""

from pathlib import Path
from typing import Annotated

import typer

Api = Annotated[str | None, typer.Option("--api", help="The API's address; else that of the running installation.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
