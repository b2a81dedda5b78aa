"""The scene of money that leaves by bank."""

from base.files import write_atomically
from cli.demo_bank import PAYER_IBAN
from cli.journey.people import Person, StoryStopped, title, until
from cli.journey.stage import Stage
from cli.output import say

DAYS_MAX = 7
"""Days of the bank within which it carries out a payment, over any weekend."""


def alice_is_paid_out_by_bank(alice: Person, stage: Stage) -> None:
    """Files go to the bank and come from it, as for a real one."""
    title("Meanwhile Alice has 120.00 EUR paid out to her bank account")
    recipient = {"name": "Alice Anders", "iban": PAYER_IBAN}
    asked = alice.post("/v1/payouts", {"asset": "EUR", "amount": "120.00", "recipient": recipient})
    say(f"  {asked['id']}: {asked['state']}, held on her account")
    until("the payment file is written", lambda: list((stage.bank_folder / "out").glob("*.xml")))
    stage.bank.carry(stage.bank_folder / "out")
    say("  a payment file (pain.001) went to the bank")
    name = stage.euros.name
    told = len(stage.bank.statements(name))
    for _ in range(DAYS_MAX):
        stage.bank.end_day()
        fresh = stage.bank.statements(name)[told:]
        for number, content in enumerate(fresh, start=told + 1):
            write_atomically(stage.bank_folder / "in" / f"camt053-{name}-{number}.xml", content)
        told += len(fresh)
        if any(asked["end_to_end_id"].encode() in content for content in fresh):
            break
    else:
        raise StoryStopped(f"after {DAYS_MAX} days the bank hasn't paid {asked['end_to_end_id']}")
    until("the payout is paid", lambda: alice.get(f"/v1/payouts/{asked['id']}")["state"] == "paid")
    say(f"  the bank's statement shows it: paid, once; Alice has {alice.has('EUR')} EUR")
