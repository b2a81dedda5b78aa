"""Stripe's objects as new ones look: every field that its API always sends, null where there is nothing."""

from railsim.calls import Json
from railsim.stripe.cards import TestCard

API_VERSION = "2026-05-27.dahlia"
BANK = "ba_railsim_merchant"
"""The merchant's bank account, to which payouts go."""


def no_billing() -> Json:
    address = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
    return {"address": address, "email": None, "name": None, "phone": None, "tax_id": None}


def card_of(card: TestCard, fingerprint: str, month: int, year: int) -> Json:
    return {
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": card.brand,
        "exp_month": month,
        "exp_year": year,
        "fingerprint": fingerprint,
        "funding": "credit",
        "generated_from": None,
        "last4": card.number[-4:],
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def payment_method(id: str, created: int, card: Json) -> Json:
    return {
        "id": id, "object": "payment_method", "allow_redisplay": "unspecified", "billing_details": no_billing(),
        "card": card, "created": created, "customer": None, "livemode": False, "metadata": {}, "type": "card",
    }  # fmt: skip


def customer(id: str, created: int) -> Json:
    return {
        "id": id, "object": "customer", "address": None, "balance": 0, "created": created, "currency": None,
        "default_source": None, "delinquent": False, "description": None, "discount": None, "email": None,
        "invoice_prefix": id[-8:].upper(),
        "invoice_settings": {
            "custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None,
        },
        "livemode": False, "metadata": {}, "name": None, "next_invoice_sequence": 1, "phone": None,
        "preferred_locales": [], "shipping": None, "tax_exempt": "none", "test_clock": None,
    }  # fmt: skip


def setup_intent(id: str, created: int, secret: str) -> Json:
    return {
        "id": id, "object": "setup_intent", "application": None, "automatic_payment_methods": None,
        "cancellation_reason": None, "client_secret": f"{id}_secret_{secret}", "created": created, "customer": None,
        "description": None, "flow_directions": None, "last_setup_error": None, "latest_attempt": None,
        "livemode": False, "mandate": None, "metadata": {}, "next_action": None, "on_behalf_of": None,
        "payment_method": None, "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {"mandate_options": None, "network": None, "request_three_d_secure": "automatic"},
        },
        "payment_method_types": ["card"], "single_use_mandate": None, "status": "requires_payment_method",
        "usage": "off_session",
    }  # fmt: skip


def payment_intent(id: str, created: int, secret: str, amount: int, currency: str) -> Json:
    return {
        "id": id, "object": "payment_intent", "amount": amount, "amount_capturable": 0, "amount_details": {"tip": {}},
        "amount_received": 0, "application": None, "application_fee_amount": None, "automatic_payment_methods": None,
        "canceled_at": None, "cancellation_reason": None, "capture_method": "automatic_async",
        "client_secret": f"{id}_secret_{secret}", "confirmation_method": "automatic", "created": created,
        "currency": currency, "customer": None, "description": None, "last_payment_error": None, "latest_charge": None,
        "livemode": False, "metadata": {}, "next_action": None, "on_behalf_of": None, "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "installments": None, "mandate_options": None, "network": None, "request_three_d_secure": "automatic",
            },
        },
        "payment_method_types": ["card"], "processing": None, "receipt_email": None, "review": None,
        "setup_future_usage": None, "shipping": None, "statement_descriptor": None, "statement_descriptor_suffix": None,
        "status": "requires_payment_method", "transfer_data": None, "transfer_group": None,
    }  # fmt: skip


def charge(id: str, created: int, intent: Json, method: Json) -> Json:
    card = method["card"]
    return {
        "id": id, "object": "charge", "amount": intent["amount"], "amount_captured": 0, "amount_refunded": 0,
        "application": None, "application_fee": None, "application_fee_amount": None, "balance_transaction": None,
        "billing_details": method["billing_details"], "calculated_statement_descriptor": "ONEBOOK", "captured": False,
        "created": created, "currency": intent["currency"], "customer": intent["customer"],
        "description": intent["description"], "disputed": False, "failure_balance_transaction": None,
        "failure_code": None, "failure_message": None, "fraud_details": {}, "livemode": False,
        "metadata": dict(intent["metadata"]), "on_behalf_of": None,
        "outcome": {
            "advice_code": None, "network_advice_code": None, "network_decline_code": None,
            "network_status": "approved_by_network", "reason": None, "risk_level": "normal", "risk_score": 12,
            "seller_message": "Payment complete.", "type": "authorized",
        },
        "paid": True, "payment_intent": intent["id"], "payment_method": method["id"],
        "payment_method_details": {
            "card": {
                "amount_authorized": intent["amount"], "authorization_code": "123456", "brand": card["brand"],
                "checks": card["checks"], "country": card["country"], "exp_month": card["exp_month"],
                "exp_year": card["exp_year"], "extended_authorization": {"status": "disabled"},
                "fingerprint": card["fingerprint"], "funding": card["funding"],
                "incremental_authorization": {"status": "unavailable"}, "installments": None, "last4": card["last4"],
                "mandate": None, "multicapture": {"status": "unavailable"}, "network": card["brand"],
                "network_token": {"used": False}, "network_transaction_id": "104557651805572",
                "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
                "regulated_status": "unregulated", "three_d_secure": None, "wallet": None,
            },
            "type": "card",
        },
        "radar_options": {}, "receipt_email": None, "receipt_number": None, "receipt_url": None, "refunded": False,
        "review": None, "shipping": None, "source_transfer": None, "statement_descriptor": None,
        "statement_descriptor_suffix": None, "status": "succeeded", "transfer_data": None, "transfer_group": None,
    }  # fmt: skip


def refund(id: str, created: int, charge: Json, amount: int) -> Json:
    return {
        "id": id, "object": "refund", "amount": amount, "balance_transaction": None, "charge": charge["id"],
        "created": created, "currency": charge["currency"],
        "destination_details": {
            "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
            "type": "card",
        },
        "metadata": {}, "payment_intent": charge["payment_intent"], "reason": None, "receipt_number": None,
        "source_transfer_reversal": None, "status": "succeeded", "transfer_reversal": None,
    }  # fmt: skip


EVIDENCE_FIELDS = (
    "access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure",
    "cancellation_rebuttal", "customer_communication", "customer_email_address", "customer_name",
    "customer_purchase_ip", "customer_signature", "duplicate_charge_documentation", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "receipt", "refund_policy", "refund_policy_disclosure",
    "refund_refusal_explanation", "service_date", "service_documentation", "shipping_address", "shipping_carrier",
    "shipping_date", "shipping_documentation", "shipping_tracking_number", "uncategorized_file", "uncategorized_text",
)  # fmt: skip


def dispute(id: str, created: int, charge: Json, amount: int, reason: str, status: str, due: int) -> Json:
    return {
        "id": id, "object": "dispute", "amount": amount, "balance_transactions": [], "charge": charge["id"],
        "created": created, "currency": charge["currency"], "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(EVIDENCE_FIELDS), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": due, "enhanced_eligibility": {}, "has_evidence": False, "past_due": False, "submission_count": 0,
        },
        "is_charge_refundable": status.startswith("warning"), "livemode": False, "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "chargeback", "network_reason_code": "10.4"}, "type": "card",
        },
        "reason": reason, "status": status,
    }  # fmt: skip


def payout(id: str, created: int, amount: int, currency: str, arrival: int) -> Json:
    return {
        "id": id, "object": "payout", "amount": amount, "application_fee": None, "application_fee_amount": None,
        "arrival_date": arrival, "automatic": True, "balance_transaction": None, "created": created,
        "currency": currency, "description": "STRIPE PAYOUT", "destination": BANK, "failure_balance_transaction": None,
        "failure_code": None, "failure_message": None, "livemode": False, "metadata": {}, "method": "standard",
        "original_payout": None, "payout_method": None, "reconciliation_status": "completed", "reversed_by": None,
        "source_type": "card", "statement_descriptor": None, "status": "pending",
        "trace_id": {"status": "pending", "value": None}, "type": "bank_account",
    }  # fmt: skip
