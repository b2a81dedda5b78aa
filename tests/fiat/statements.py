"""Writes camt.053 files as banks write them, in both versions, for tests that bend one thing in them."""

from dataclasses import dataclass, field
from datetime import date
from io import BytesIO

from fiat.bank.camt import read_camt
from fiat.bank.lines import Statement, StatementLine
from fiat.bank.xml import GuardedStream, version_of

IBAN = "DE89370400440532013000"
DAY = date(2025, 12, 1)


@dataclass(frozen=True)
class Entry:
    """Cents; `side` as the bank says it."""

    cents: int
    text: str | tuple[str, ...] = ""
    side: str = "CRDT"
    bank_reference: str = ""
    structured: str = ""
    status: str = "BOOK"
    currency: str = "EUR"
    reversal: bool = False
    returned: bool = False
    payer: str = "Ada Payer"
    parts: tuple[tuple[int, str], ...] = ()
    end_to_end_id: str = "NOTPROVIDED"
    day: date = DAY

    @property
    def signed(self):
        return self.cents if self.side == "CRDT" else -self.cents


@dataclass(frozen=True)
class Told:
    """A statement with its lines, as the reader gave them."""

    statement: Statement
    lines: list[StatementLine]

    def __getattr__(self, name):
        return getattr(self.statement, name)


@dataclass
class Lines:
    """A sink that keeps all lines in memory."""

    by_ordinal: dict[int, list[StatementLine]] = field(default_factory=dict)

    def add(self, ordinal, line):
        self.by_ordinal.setdefault(ordinal, []).append(line)


def read_statements(content, *, file, scales):
    """All that a camt file says."""
    lines = Lines()
    stream = GuardedStream(BytesIO(content), file)
    found = read_camt(stream, version_of(stream), file=file, scales=scales, sink=lines)
    return [Told(statement, lines.by_ordinal.get(ordinal, [])) for ordinal, statement in enumerate(found)]


def euros(cents):
    return f"{cents // 100}.{cents % 100:02}"


def camt053(
    *entries,
    version="08",
    name="STMT-1",
    opening=0,
    closing=None,
    iban=IBAN,
    currency="EUR",
    day=DAY,
    sequence=1,
    summary="",
):
    """A file with one statement. `closing` defaults to what the entries make."""
    if closing is None:
        closing = opening + sum(entry.signed for entry in entries if entry.status == "BOOK")
    header = f"<GrpHdr><MsgId>MSG-{name}</MsgId><CreDtTm>{day}T23:00:00Z</CreDtTm></GrpHdr>"
    balances = _balance("OPBD", opening, currency, day) + _balance("CLBD", closing, currency, day)
    body = "\n".join(_entry(entry, version) for entry in entries)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}"><BkToCstmrStmt>\n{header}\n'
        f"<Stmt><Id>{name}</Id><ElctrncSeqNb>{sequence}</ElctrncSeqNb><CreDtTm>{day}T23:00:00Z</CreDtTm>\n"
        f"<Acct><Id><IBAN>{iban}</IBAN></Id><Ccy>{currency}</Ccy></Acct>\n{balances}{summary}\n{body}\n"
        "</Stmt></BkToCstmrStmt></Document>\n"
    ).encode()


def _balance(code, cents, currency, day):
    side = "CRDT" if cents >= 0 else "DBIT"
    return (
        f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>"
        f'<Amt Ccy="{currency}">{euros(abs(cents))}</Amt><CdtDbtInd>{side}</CdtDbtInd><Dt><Dt>{day}</Dt></Dt></Bal>\n'
    )


def _entry(entry, version):
    status = f"<Cd>{entry.status}</Cd>" if version == "08" else entry.status
    reversal = "<RvslInd>true</RvslInd>" if entry.reversal else ""
    reference = f"<AcctSvcrRef>{entry.bank_reference}</AcctSvcrRef>" if entry.bank_reference else ""
    parts = entry.parts or ((None, entry.text),)
    details = "".join(_details(entry, cents, text, version) for cents, text in parts)
    return (
        f'<Ntry><Amt Ccy="{entry.currency}">{euros(entry.cents)}</Amt><CdtDbtInd>{entry.side}</CdtDbtInd>{reversal}'
        f"<Sts>{status}</Sts><BookgDt><Dt>{entry.day}</Dt></BookgDt><ValDt><Dt>{entry.day}</Dt></ValDt>{reference}"
        f"<BkTxCd><Prtry><Cd>NTRF</Cd></Prtry></BkTxCd><NtryDtls>{details}</NtryDtls></Ntry>"
    )


def _details(entry, cents, text, version):
    if cents is None:
        amount = ""
    elif version == "08":
        amount = f'<Amt Ccy="{entry.currency}">{euros(cents)}</Amt><CdtDbtInd>{entry.side}</CdtDbtInd>'
    else:
        amount = f'<AmtDtls><TxAmt><Amt Ccy="{entry.currency}">{euros(cents)}</Amt></TxAmt></AmtDtls>'
    party = f"<Pty><Nm>{entry.payer}</Nm></Pty>" if version == "08" else f"<Nm>{entry.payer}</Nm>"
    role = "Dbtr" if entry.side == "CRDT" else "Cdtr"
    lines = [text] if isinstance(text, str) else text
    remittance = "".join(f"<Ustrd>{line}</Ustrd>" for line in lines if line)
    if entry.structured:
        remittance += f"<Strd><CdtrRefInf><Ref>{entry.structured}</Ref></CdtrRefInf></Strd>"
    return (
        f"<TxDtls><Refs><EndToEndId>{entry.end_to_end_id}</EndToEndId></Refs>{amount}"
        f"<RltdPties><{role}>{party}</{role}><{role}Acct><Id><IBAN>FR1420041010050500013M02606</IBAN></Id></{role}Acct>"
        f"</RltdPties><RmtInf>{remittance}</RmtInf>{'<RtrInf/>' if entry.returned else ''}</TxDtls>"
    )
