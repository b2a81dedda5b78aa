"""The whole story, scene by scene. Every figure that it prints was read back through the public API.

It plays the people (users, a treasurer, somebody outside) and nothing of the service; `cli.demo` runs the processes.
"""

import httpx

from base.tls import trusted_roots
from cli.journey import moving, paying_in, paying_out, withdrawing
from cli.journey.people import Person
from cli.journey.reckoning import reckoning
from cli.journey.stage import Ending, Stage
from cli.output import say


def play(stage: Stage) -> Ending:
    """Play the whole story. Raises StoryStopped, Unavailable.

    While blocks or the bank take their time, another scene is played: what waits for nothing doesn't wait.
    """
    with httpx.Client(base_url=stage.api_url, timeout=30, trust_env=False, verify=trusted_roots()) as api:
        people = _cast(api, stage)
        alice, bob, treasurer = people["alice"], people["bob"], people["treasurer"]
        paying_in.house_sends_its_stock(stage)
        paying_in.both_pay_in_by_bank(alice, bob, treasurer, stage)
        paying_in.alice_pays_in_by_card(alice)
        paying_in.bob_pays_in_by_paypal(bob, stage)
        paying_in.stock_is_assigned(treasurer)
        paying_in.deposits_on_both_networks(alice, bob, stage)
        moving.both_convert(alice, bob)
        moving.they_pay_each_other(alice, bob)
        moving.alice_pays_pounds_that_she_doesnt_have(alice, bob)
        withdrawing.on_both_networks(alice, bob, stage)
        stuck = withdrawing.one_is_stuck(alice, stage)
        paying_out.alice_is_paid_out_by_bank(alice, stage)
        withdrawing.the_stuck_one_was_paid(alice, stage, stuck)
        return reckoning(people, stage)


def _cast(api: httpx.Client, stage: Stage) -> dict[str, Person]:
    operator = Person("operator", stage.operator_key, api)
    people = {"operator": operator}
    treasury = operator.post("/v1/api-keys", {"label": "treasurer", "scopes": ["treasury"]})
    people["treasurer"] = Person("treasurer", treasury["secret"], api)
    for handle in ("alice", "bob"):
        user = operator.post("/v1/users", {"handle": handle, "name": handle.title()})
        key = operator.post("/v1/api-keys", {"label": f"{handle}'s", "scopes": ["user"], "user": user["id"]})
        people[handle] = Person(handle, key["secret"], api)
    say(f"  users @alice and @bob have keys; {len(people)} people take part")
    return people
