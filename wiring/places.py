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
    match path:
        case (str(name), int(number), *rest):
            heads = [at for at, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{re.escape(name)}\s*\]\]", line)]
            if number < len(heads):
                start = heads[number]
                key = rest[0] if rest else None
                return (_key(lines, key, start + 1) if isinstance(key, str) else None) or start + 1
            return _key(lines, name, 0)
        case (str(name), *rest):
            for at, line in enumerate(lines):
                if re.match(rf"\s*\[\s*{re.escape(name)}\s*\]", line):
                    return (_key(lines, rest[0], at + 1) if rest and isinstance(rest[0], str) else None) or at + 1
            return _key(lines, name, 0)
    return None


def _key(lines: list[str], key: str, start: int) -> int | None:
    """The line of `key = ...` in the table whose content begins at `start`, from 0."""
    for at in range(start, len(lines)):
        if re.match(r"\s*\[", lines[at]):
            return None
        if re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", lines[at]):
            return at + 1
    return None
