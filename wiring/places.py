"""Where in a TOML text a table or one of its keys stands, for messages that name a line. Pure.

The TOML reader of the standard library keeps no lines, so the text is looked through once more: only for a message,
never for a value.
"""

import re

Path = tuple[str | int, ...]
"""As pydantic names a place: `("deployments", 1, "decimals")`."""


def line_of(text: str, path: Path) -> int | None:
    """The line, from 1, of the innermost part of `path` that is found; None where not even its first is."""
    lines = text.splitlines()
    named = [part for part in path if isinstance(part, str)]
    for depth in range(len(named), 0, -1):
        start, rest = _heading(lines, path, depth)
        if start is not None:
            key = rest[0] if rest else None
            return (_key(lines, key, start + 1) if isinstance(key, str) else None) or start + 1
    return _key(lines, named[0], 0) if named else None


def _heading(lines: list[str], path: Path, depth: int) -> tuple[int | None, Path]:
    """The line, from 0, of the table that the first `depth` names of `path` make, and what of the path is left."""
    names, left = path[:depth], path[depth:]
    if not all(isinstance(name, str) for name in names):
        return None, left
    dotted = r"\s*\.\s*".join(re.escape(str(name)) for name in names)
    if left and isinstance(left[0], int):
        number, left = left[0], left[1:]
        heads = [at for at, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{dotted}\s*\]\]", line)]
        return (heads[number] if number < len(heads) else None), left
    heads = [at for at, line in enumerate(lines) if re.match(rf"\s*\[\s*{dotted}\s*\]", line)]
    return (heads[0] if heads else None), left


def _key(lines: list[str], key: str, start: int) -> int | None:
    """The line of `key = ...` in the table whose content begins at `start`, from 0."""
    for at in range(start, len(lines)):
        if re.match(r"\s*\[", lines[at]):
            return None
        if re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", lines[at]):
            return at + 1
    return None
