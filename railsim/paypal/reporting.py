"""PayPal's Transaction Search v1: the balances, by currency, as all that moved them adds up to."""

from collections import Counter

from railsim.calls import Answer, Call, Json, Operation
from railsim.money import from_text
from railsim.paypal.errors import plain
from railsim.paypal.store import Store, money

OUT = ("SUCCESS", "UNCLAIMED")
"""States of a payout's item in which its amount has left."""


class Reporting:
    """The whole is available at once, and fresh: PayPal itself lags behind by up to three hours."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [Operation("GET", "/v1/reporting/balances", self.balances)]

    def balances(self, call: Call) -> Answer:
        wanted = call.query.get("currency_code")
        if wanted is not None and len(wanted) != 3:
            raise plain(400, "INVALID_REQUEST", "Request is not well-formed", "INVALID", field="currency_code")
        sums = {code: sum for code, sum in sorted(self._sums().items()) if wanted in (None, code)}
        now = self.store.time()
        return Answer(200, {
            "balances": [
                {
                    "currency": code, "primary": code == "USD", "total_balance": money(sum, code),
                    "available_balance": money(sum, code), "withheld_balance": money(0, code),
                }
                for code, sum in sums.items()
            ],
            "account_id": self.store.merchant, "as_of_time": now, "last_refresh_time": now,
        })  # fmt: skip

    def _sums(self) -> Counter[str]:
        store, sums = self.store, Counter({"USD": 0})
        for one in store.captures.values():
            if one["status"] not in ("PENDING", "DECLINED", "FAILED"):
                _add(sums, one["seller_receivable_breakdown"]["net_amount"], 1)
        for one in store.refunds.values():
            if one["status"] == "COMPLETED":
                _add(sums, one["amount"], -1)
        for one in store.disputes.values():
            for movement in one["money_movements"]:
                _add(sums, movement["amount"], -1 if movement["type"] == "DEBIT" else 1)
        for one in store.items.values():
            state, told = one["transaction_status"], one["payout_item"]["amount"]
            if state in OUT:
                _add(sums, told, -1)
            if state in (*OUT, "RETURNED"):
                _add(sums, one["payout_item_fee"], -1)
        return sums


def _add(sums: Counter[str], told: Json, sign: int) -> None:
    code = told.get("currency_code") or told["currency"]
    sums[code] += sign * (from_text(told["value"], code) or 0)
