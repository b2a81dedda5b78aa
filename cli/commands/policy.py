"""`onebook policy`: what a policy means, what it would say, what changes, signing it, beginning with it. Offline."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from base.errors import ConfigError
from cli.asking import PassphraseFd, agree, ask_for, read_text
from cli.key_places import Pkcs11Module, Pkcs11Token, key_place
from cli.options import Json
from cli.output import Exit, say, show_json
from cli.policies import (
    creators,
    journal_path,
    person_of,
    policy_path,
    read_policy,
    settings_if_any,
)
from custody import approver_keys
from custody.approvals import policy_statement
from custody.clocks import SystemClocks
from custody.enrolment import accept_policy
from custody.enrolment import enrol as begin_journal
from custody.errors import JournalExists, PolicyInvalid
from custody.explaining import Explanation, explain
from custody.intent_json import read_intent
from custody.intents import Intent
from custody.journal import Journal
from custody.journal_copy import journal_copy
from custody.policy import Policy
from custody.policy_diff import Change, Way, diff
from custody.policy_signatures import add_signature, signatures_path
from custody.policy_warnings import warnings
from custody.vocabulary import Vocabulary

app = typer.Typer(
    help="What the signer may sign: check, explain, compare, sign.", no_args_is_help=True, rich_markup_mode=None
)

Config = Annotated[
    Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml, if any.")
]
At = Annotated[
    datetime | None,
    typer.Option("--at", formats=["%Y-%m-%dT%H:%M:%SZ"], help="As of when, as 2026-11-22T12:00:00Z; else now."),
]


@app.callback()
def policy() -> None:
    """What the signer may sign: check, explain, compare, sign."""


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="A policy; else the configured one.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 for warnings too.")] = False,
    at: At = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what a policy means, rule by rule, and what its people may not have meant. Exit code 1 if it is none.

    Example: onebook policy check policy.toml
    """
    path = policy_path(file, settings_if_any(config), option="a file")
    try:
        found = read_policy(path)
    except PolicyInvalid as problem:
        if json:
            show_json({"file": str(path), "valid": False, "problem": problem.message})
        else:
            say(problem.message)
        raise typer.Exit(Exit.DISAGREES) from problem
    said = warnings(found, now=_seconds(at))
    if json:
        show_json({"file": str(path), "valid": True, **_document(found), "warnings": said})
    else:
        _show(found, said)
    if strict and said:
        raise typer.Exit(Exit.DISAGREES)


@app.command("explain")
def explain_command(
    file: Annotated[Path, typer.Argument(help="A policy.")],
    intent: Annotated[Path, typer.Argument(help="An intent as JSON; docs/approvals.md shows each kind.")],
    journal: Annotated[Path | None, typer.Option("--journal", help="A journal (or its copy): what was signed.")] = None,
    approved_by: Annotated[list[str] | None, typer.Option(help="Suppose that this person has approved it.")] = None,
    at: At = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what the signer would say to an intent: which rule, why, what's missing. Exit code 1 if it would refuse.

    Offline: nothing is asked or signed. Signatures aren't checked; approvals are supposed.

    Example: onebook policy explain policy.toml payment.json --journal journal.sqlite --approved-by ada
    """
    found, asked = read_policy(file), read_intent(read_text(intent))
    supposed = frozenset(approved_by or [])
    unknown = supposed - {person.name for person in found.people}
    if unknown:
        raise ConfigError(f"the policy knows nobody called {', '.join(sorted(unknown))}")
    explanation = _explained(found, asked, supposed, journal, at, config)
    if json:
        show_json(_explanation_document(explanation))
    else:
        _show_explanation(explanation, Vocabulary(found))
    if not explanation.is_allowed:
        raise typer.Exit(Exit.DISAGREES)


@app.command("diff")
def diff_command(
    old: Annotated[Path, typer.Argument(help="The policy in force.")],
    new: Annotated[Path, typer.Argument(help="The one to come.")],
    json: Json = False,
) -> None:
    """Say what changes in meaning from one policy to another, loudly where more becomes possible.

    Exit code 1 if anything becomes looser.

    Example: onebook policy diff policy.toml next.toml
    """
    changes = diff(read_policy(old), read_policy(new))
    if json:
        show_json([{"way": change.way.value, "sentence": change.sentence} for change in changes])
    else:
        _show_changes(changes)
    if any(change.way is Way.LOOSER for change in changes):
        raise typer.Exit(Exit.DISAGREES)


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(help="The policy to sign.")],
    key: Annotated[Path, typer.Option("--key", help="Your approver key.")],
    against: Annotated[
        Path | None, typer.Option("--against", help="The policy in force, whose people sign; else the configured one.")
    ] = None,
    passphrase_fd: PassphraseFd = None,
    config: Config = None,
) -> None:
    """Sign a policy as one of the people of the one in force, after seeing what changes. Writes FILE.signatures.

    Example: onebook policy sign next.toml --against policy.toml --key ada.approver
    """
    before_path = policy_path(against, settings_if_any(config), option="--against")
    if before_path.resolve() == file.resolve():
        raise ConfigError(f"{file} is the policy in force itself: name that with --against, and the new one as FILE")
    before, after = read_policy(before_path), read_policy(file)
    header = approver_keys.read_header(key)
    person = person_of(before, header, key)
    changes = diff(before, after)
    say(f"policy version {after.version}, fingerprint {after.fingerprint.hex()}")
    say(f"compared with version {before.version} in {before_path}, fingerprint {before.fingerprint.hex()}:")
    _show_changes(changes)
    for sentence in warnings(after, now=_seconds(None)):
        say(f"  warning: {sentence}")
    agree(f"Sign it as {person.name}?")
    opened = approver_keys.open_key(key, passphrase=ask_for(f"the key of {person.name}", passphrase_fd))
    signature = opened.sign(policy_statement(after.fingerprint, after.version), name=person.name)
    signed = add_signature(file, version=after.version, fingerprint=after.fingerprint, signature=signature)
    names = ", ".join(one.by for one in signed.signatures)
    say(f"{signatures_path(file)}: signed by {names}; {before.threshold} are needed")
    if len(signed.signatures) >= before.threshold:
        say(f"put {file} and its signatures where the signer's policy is, and start the signer anew")


@app.command()
def enrol(
    file: Annotated[Path, typer.Argument(help="The first policy, with the keys' fingerprints under [keys].")],
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Where the journal goes; else the configured.")
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Folder of the key files; else the configured.")] = None,
    pkcs11_module: Pkcs11Module = None,
    pkcs11_token: Pkcs11Token = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    passphrase_fd: PassphraseFd = None,
    config: Config = None,
) -> None:
    """Begin the signer's journal with the keys of a ceremony and their first policy: once, never anew.

    From then on the signer starts with this policy only, or a successor that its people signed.

    Example: onebook policy enrol policy.toml --keys keys --journal journal.sqlite
    """
    settings = settings_if_any(config)
    found = read_policy(file)
    place, where = journal_path(journal, settings), key_place(keys, pkcs11_module, pkcs11_token, settings)
    if place.exists():
        raise JournalExists(f"{place} exists: a journal is never begun anew")
    if not found.keys:
        raise PolicyInvalid(f"{file}: [keys] is missing: put there what `onebook keys list` shows, by role")
    _show(found, warnings(found, now=_seconds(None)))
    if not yes:
        agree("Begin the journal with it?")
    with where.opened(found.keys, where.ask(passphrase_fd)) as held:
        begin_journal(place, held, found, clocks=SystemClocks())
    say(f"{place} begins with policy version {found.version}, fingerprint {found.fingerprint.hex()}")
    say("put both where the signer's are, for its user alone (mode 0600), and start it")


@app.command()
def accept(
    file: Annotated[Path, typer.Argument(help="The successor of the policy in force.")],
    journal: Annotated[
        Path | None, typer.Option("--journal", help="The signer's journal; else the configured.")
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Folder of the key files; else the configured.")] = None,
    pkcs11_module: Pkcs11Module = None,
    pkcs11_token: Pkcs11Token = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    passphrase_fd: PassphraseFd = None,
    config: Config = None,
) -> None:
    """Have a successor accepted with the keys' passphrase, where the policy in force has no people. Signer stopped.

    Example: onebook policy accept next.toml --config wallet/onebook.toml
    """
    settings = settings_if_any(config)
    found = read_policy(file)
    place, where = journal_path(journal, settings), key_place(keys, pkcs11_module, pkcs11_token, settings)
    _show(found, warnings(found, now=_seconds(None)))
    if not yes:
        agree("Accept it?")
    passphrase = where.ask(passphrase_fd)
    before = Journal.open(place, SystemClocks())
    marks = {**before.enrolment.fingerprints, **found.keys}
    before.close()
    with where.opened(marks, passphrase) as held:
        accept_policy(place, held, found, clocks=SystemClocks())
    say(f"policy version {found.version} is accepted; put {file} where the signer's policy is, and start the signer")


# --- showing ---------------------------------------------------------------------------------------------------------


def _seconds(at: datetime | None) -> int:
    return int((at.replace(tzinfo=UTC) if at is not None else datetime.now(UTC)).timestamp())


def _document(found: Policy) -> dict[str, object]:
    words = Vocabulary(found)
    return {
        "version": found.version,
        "fingerprint": found.fingerprint.hex(),
        "threshold": found.threshold,
        "people": [person.name for person in found.people],
        "networks": sorted(found.networks),
        "rules": [{"name": rule.name, "meaning": words.rule(rule)} for rule in found.rules],
    }


def _show(found: Policy, said: list[str]) -> None:
    words = Vocabulary(found)
    say(f"policy version {found.version}, fingerprint {found.fingerprint.hex()}")
    people = ", ".join(person.name for person in found.people)
    say(f"people: {people or 'none'}" + (f"; any {found.threshold} of them change it" if people else ""))
    say(f"networks: {', '.join(words.network(chain_id) for chain_id in sorted(found.networks))}")
    if found.ceilings is not None:
        say(f"ceiling: {found.ceilings.per_day} policy units a day; {found.ceilings.approvals} approvals exceed it")
    say(f"\n{len(found.rules)} rules, the first that matches decides, what none matches is refused:")
    for number, rule in enumerate(found.rules, start=1):
        say(f"{number:3}. {rule.name}: {words.rule(rule)}")
    say("" if said else "\nno warnings")
    for sentence in said:
        say(f"warning: {sentence}")


def _explained(
    found: Policy,
    asked: Intent,
    supposed: frozenset[str],
    journal: Path | None,
    at: datetime | None,
    config: Path | None,
) -> Explanation:
    addresses = creators(found, settings_if_any(config))
    if journal is None:
        return explain(found, asked, seconds=_seconds(at), approved_by=supposed, own_addresses=addresses)
    with journal_copy(journal) as copy:
        last = copy.last.at_us // 1_000_000
        if at is not None and _seconds(at) < last:
            raise ConfigError(f"--at is before the journal's last row, at second {last}: the past isn't counted again")
        seconds = max(last, _seconds(at))
        return explain(found, asked, seconds=seconds, journal=copy, approved_by=supposed, own_addresses=addresses)


def _explanation_document(explanation: Explanation) -> dict[str, object]:
    return {
        "allowed": explanation.is_allowed,
        "code": explanation.code,
        "sentence": explanation.sentence,
        "rule": explanation.rule.name if explanation.rule else None,
        "counted": list(explanation.counted),
        "missing": list(explanation.missing),
        "supposed": list(explanation.supposed),
    }


def _show_explanation(explanation: Explanation, words: Vocabulary) -> None:
    say(f"{'signed' if explanation.is_allowed else 'refused'} ({explanation.code}): {explanation.sentence}")
    if explanation.rule is not None:
        say(f"rule     {explanation.rule.name}: {words.rule(explanation.rule)}")
    for name, sentences in (
        ("counted", explanation.counted),
        ("missing", explanation.missing),
        ("supposed", explanation.supposed),
    ):
        for sentence in sentences:
            say(f"{name:8} {sentence}")


def _show_changes(changes: list[Change]) -> None:
    looser = [change for change in changes if change.way is Way.LOOSER]
    if not changes:
        say("nothing changes in meaning")
    if looser:
        say(f"!!! LOOSER in {len(looser)} thing{'s' if len(looser) > 1 else ''}: more can be signed, or by more people")
    for change in changes:
        mark = {Way.LOOSER: "!!! looser", Way.TIGHTER: "tighter", Way.OTHER: "changed"}[change.way]
        say(f"  {mark:10} {change.sentence}")
