"""Stripe's test cards, as its documentation lists them (docs.stripe.com/testing), by number and by PaymentMethod."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TestCard:
    """What a card does. `decline_code` with `code` declines; `fate` is something that comes later."""

    number: str
    names: tuple[str, ...] = ()
    code: str | None = None
    decline_code: str | None = None
    fate: str | None = None
    """`dispute`, `inquiry`: one opens by itself. `refund_fails`, `refund_pends`: what its refunds do."""
    attachable: bool = True
    challenge: bool = False
    """Authentication is required: `requires_action`, until the control API says that the customer has done it."""
    brand: str = "visa"


CARDS = (
    TestCard("4242424242424242", ("pm_card_visa", "pm_card_us", "tok_visa")),
    TestCard("5555555555554444", ("pm_card_mastercard", "tok_mastercard"), brand="mastercard"),
    TestCard("378282246310005", ("pm_card_amex", "tok_amex"), brand="amex"),
    TestCard(
        "4000000000000002", ("pm_card_visa_chargeDeclined", "pm_card_chargeDeclined"),
        "card_declined", "generic_decline",
        attachable=False,
    ),
    TestCard(
        "4000000000009995",
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "pm_card_chargeDeclinedInsufficientFunds"),
        "card_declined",
        "insufficient_funds",
        attachable=False,
    ),
    TestCard(
        "4000000000009987", ("pm_card_visa_chargeDeclinedLostCard", "pm_card_chargeDeclinedLostCard"),
        "card_declined", "lost_card", attachable=False,
    ),
    TestCard(
        "4000000000009979", ("pm_card_visa_chargeDeclinedStolenCard", "pm_card_chargeDeclinedStolenCard"),
        "card_declined", "stolen_card", attachable=False,
    ),
    TestCard("4000000000000069", ("pm_card_chargeDeclinedExpiredCard",), "expired_card", attachable=False),
    TestCard("4000000000000127", ("pm_card_chargeDeclinedIncorrectCvc",), "incorrect_cvc", attachable=False),
    TestCard("4000000000000119", ("pm_card_chargeDeclinedProcessingError",), "processing_error", attachable=False),
    TestCard("4000000000000341", ("pm_card_chargeCustomerFail",), "card_declined", "generic_decline"),
    TestCard("4000000000000259", ("pm_card_createDispute",), fate="dispute"),
    TestCard("4000000000001976", ("pm_card_createDisputeInquiry",), fate="inquiry"),
    TestCard("4000000000005126", ("pm_card_refundFail",), fate="refund_fails"),
    TestCard("4000000000007726", ("pm_card_pendingRefund",), fate="refund_pends"),
    TestCard("4000002500003155", ("pm_card_authenticationRequiredOnSetup",), challenge=True),
    TestCard("4000002760003184", ("pm_card_authenticationRequired",), challenge=True),
)  # fmt: skip
BY_NAME = {name: card for card in CARDS for name in card.names}
BY_NUMBER = {card.number: card for card in CARDS}

DECLINED_TEXTS = {
    "card_declined": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}
