"""Reading XML that came from outside: safe before it's parsed, and checked against the schema of its version.

No document types, so no entities; no network; bounded depth and size; an encoding in which the bytes of `<!DOCTYPE`
are the letters of `<!DOCTYPE`, so that looking for them finds them: one that is declared otherwise (UTF-7, UTF-16) is
refused by its name. A refusal names file and line and never repeats
what stands there, which may be personal.
"""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from lxml import etree

from fiat.errors import MalformedFile, UnknownFormat, UnsafeFile

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:"

VERSIONS = (
    *("camt.053.001.02", "camt.053.001.08", "camt.054.001.02", "camt.054.001.08"),
    *("pain.002.001.03", "pain.002.001.10", "pacs.004.001.02", "pacs.004.001.09"),
)
"""The messages and versions read: those that banks have delivered for a decade, and those of the 2019 set."""

FILE_BYTES_MAX = 1024 * 1024 * 1024
"""The largest file that is read, streaming: some million entries."""

MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""The largest message that is read whole into memory (pain.002, pacs.004), and the largest upload."""

DECLARATION_BYTES_MAX = 1000
"""Within which an XML declaration must end."""

_START_BYTES = 64 * 1024
_SCHEMAS = Path(__file__).parent / "schemas"
_DECLARED_ENCODING = re.compile(rb"""\sencoding\s*=\s*(["'])([A-Za-z0-9._:()-]*)\1""")
_ENCODINGS = ("utf-8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252")
_FORBIDDEN = (b"<!DOCTYPE", b"<!ENTITY")
_OVERLAP = max(map(len, _FORBIDDEN)) - 1
_SAID = re.compile(r"'[^']*'")


class GuardedStream:
    """A file's bytes on their way to the parser, each looked at first. Raises UnsafeFile from `read`."""

    def __init__(self, stream: BinaryIO, file: str, *, bytes_max: int | None = None) -> None:
        """Looks at the beginning. Raises UnsafeFile."""
        self._stream = stream
        self.file = file
        self._bytes_max = FILE_BYTES_MAX if bytes_max is None else bytes_max
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._lines = 1
        self._tail = b""
        self._ahead = self._look(stream.read(_START_BYTES))
        self._require_xml(self._ahead)

    @property
    def start(self) -> bytes:
        """The first bytes, which are read again."""
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        if self._ahead:
            given, self._ahead = (self._ahead, b"") if size < 0 else (self._ahead[:size], self._ahead[size:])
            return given
        return self._look(self._stream.read(size if size >= 0 else self._bytes_max + 1))

    def sha256(self) -> bytes:
        """The digest of the whole file; what hasn't been read yet is."""
        self._ahead = b""
        while self._look(self._stream.read(1024 * 1024)):
            pass
        return self._sha256.digest()

    def _look(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size > self._bytes_max:
            raise UnsafeFile(f"more than the {self._bytes_max} bytes that are read", file=self.file, size=self._size)
        self._sha256.update(chunk)
        seen = self._tail + chunk
        upper = seen.upper()
        for token in _FORBIDDEN:
            if (place := upper.find(token)) >= 0:
                line = self._lines + seen.count(b"\n", len(self._tail), max(place, len(self._tail)))
                raise UnsafeFile(
                    "holds a document type definition, which bank files never do", file=self.file, line=line
                )
        if b"\0" in chunk:
            raise UnsafeFile("not a text file", file=self.file, line=self._lines)
        self._lines += chunk.count(b"\n")
        self._tail = seen[-_OVERLAP:]
        return chunk

    def _require_xml(self, start: bytes) -> None:
        text = start.removeprefix(b"\xef\xbb\xbf")
        if not text.lstrip().startswith(b"<"):
            raise UnsafeFile("not a text file in UTF-8 or ISO 8859-1 that begins with XML", file=self.file, line=1)
        encoding = self._declared(text.lstrip())
        if encoding.lower() not in _ENCODINGS:
            raise UnsafeFile(
                f"declares the encoding {encoding[:40]!r}, in which a document type can be hidden; read are"
                f" {', '.join(_ENCODINGS)}",
                file=self.file,
                line=1,
            )

    def _declared(self, text: bytes) -> str:
        """The encoding that the XML declaration names, UTF-8 without one. Raises UnsafeFile if it can't be told."""
        if not text.startswith(b"<?xml") or text[5:6].isalnum():  # `<?xml-stylesheet` is no declaration
            return "utf-8"
        end = text.find(b"?>", 0, DECLARATION_BYTES_MAX)
        found = _DECLARED_ENCODING.search(text, 0, max(end, 0))
        if end < 0 or (found is None and b"encoding" in text[:end]):
            raise UnsafeFile("its XML declaration can't be read, so its encoding isn't known", file=self.file, line=1)
        return found.group(2).decode() if found else "utf-8"


def version_of(stream: GuardedStream) -> str:
    """Which of VERSIONS the file says it is. Raises UnknownFormat, MalformedFile."""
    parser = etree.XMLPullParser(
        events=("start",), resolve_entities=False, load_dtd=False, no_network=True, remove_comments=True
    )
    try:
        parser.feed(stream.start)
        found = next(iter(parser.read_events()), None)
    except etree.XMLSyntaxError as error:
        raise malformed(error, stream.file) from error
    if found is None:
        raise MalformedFile("not well-formed XML: no element begins", file=stream.file, line=1)
    root: Any = found[1]
    name = etree.QName(root)
    version = (name.namespace or "").removeprefix(NAMESPACE)
    if version in VERSIONS and name.localname == "Document":
        return version
    raise UnknownFormat(
        f"this is {version[:100] or 'XML without a namespace'}; read are {', '.join(VERSIONS)}, and MT940",
        file=stream.file,
        line=root.sourceline,
        found=version[:100],
        known=list(VERSIONS),
    )


@cache
def schema(version: str) -> etree.XMLSchema:
    """The schema of one of VERSIONS: the part of the standard that is read here."""
    return etree.XMLSchema(file=str(_SCHEMAS / f"{version}.xsd"))


def read_whole(stream: GuardedStream, version: str, file: str) -> Any:
    """The root of a message that is small enough for memory. Raises MalformedFile."""
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,  # keeps libxml2's own bounds: 256 levels, 10 MB a text
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(stream.read(), parser)
    except etree.XMLSyntaxError as error:
        raise malformed(error, file) from error
    require_valid(root, version, file)
    return root


def require_valid(element: Any, version: str, file: str) -> None:
    """Check an element, and all below it, against the schema. Raises MalformedFile, with the line."""
    checked: Any = schema(version)
    if not checked.validate(element):
        first = checked.error_log[0]
        raise MalformedFile(invalid(first.message, version), file=file, line=first.line)


def malformed(error: etree.XMLSyntaxError, file: str) -> MalformedFile:
    """What the parser said."""
    return MalformedFile(f"not well-formed XML: {_without_values(str(error.msg))}", file=file, line=error.lineno)


def invalid(message: str, version: str) -> str:
    """A schema's complaint without the value that it's about: that may be somebody's name."""
    said = message.replace(f"{{{NAMESPACE}{version}}}", "")
    element, _, rule = said.partition(": ")
    rule = re.sub(r"[Vv]alue '.*?' (?=(is|has|of|does))", "value ", rule, flags=re.DOTALL)
    rule = re.sub(r"'[^']*' is not", "it is not", rule)
    return f"not a valid {version}: {element}: {rule}".strip()


def _without_values(said: str) -> str:
    return _SAID.sub("...", said)
