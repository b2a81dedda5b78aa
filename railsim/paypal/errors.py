"""PayPal's refusals, with the sentences of its API reference."""

import json

from railsim.calls import Answer, Call, Json, Refused

NAMES = {
    400: ("INVALID_REQUEST", "Request is not well-formed, syntactically incorrect, or violates schema."),
    401: (
        "AUTHENTICATION_FAILURE",
        "Authentication failed due to missing authorization header, or invalid authentication credentials.",
    ),
    403: ("NOT_AUTHORIZED", "Authorization failed due to insufficient permissions."),
    404: ("RESOURCE_NOT_FOUND", "The specified resource does not exist."),
    409: ("RESOURCE_CONFLICT", "The server has detected a conflict while processing this request."),
    422: (
        "UNPROCESSABLE_ENTITY",
        "The requested action could not be performed, semantically incorrect, or failed business validation.",
    ),
    429: ("RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting."),
    500: ("INTERNAL_SERVER_ERROR", "An internal server error occurred."),
}

ISSUES = {
    "MISSING_REQUIRED_PARAMETER": "A required parameter is missing.",
    "INVALID_PARAMETER_VALUE": "A parameter value is not valid.",
    "INVALID_PARAMETER_SYNTAX": "The value of a field does not conform to the expected format.",
    "MALFORMED_REQUEST_JSON": "The request JSON is not well formed.",
    "NOT_SUPPORTED": "This field is not currently supported.",
    "PAYPAL_REQUEST_ID_REQUIRED": "A PayPal-Request-Id is required if you are trying to process payment for an Order."
    " Please specify a PayPal-Request-Id or Create the Order without a 'payment_source' specified.",
    "INVALID_RESOURCE_ID": "Specified resource ID does not exist. Please check the resource ID and try again.",
    "CANNOT_BE_ZERO_OR_NEGATIVE": "Must be greater than zero. If the currency supports decimals, only two decimal place"
    " precision is supported.",
    "DECIMAL_PRECISION": "If the currency supports decimals, only two decimal place precision is supported.",
    "INSTRUMENT_DECLINED": "The instrument presented  was either declined by the processor or bank, or it can't be used"
    " for this payment.",
    "TRANSACTION_REFUSED": "The request was refused.",
    "PAYER_CANNOT_PAY": "Payer cannot pay for this transaction. Please contact the payer to find other ways to pay for"
    " this transaction.",
    "DUPLICATE_INVOICE_ID": "Duplicate Invoice ID detected. To avoid a potential duplicate transaction your account"
    " setting requires that Invoice Id be unique for each transaction.",
    "AUTH_CAPTURE_NOT_ENABLED": "Authorization and Capture feature is not enabled for the merchant. Make sure that the"
    " recipient of the funds is a verified business account.",
    "REFUND_NOT_ALLOWED": "Capture cannot be refunded.",
    "REFUND_FAILED_INSUFFICIENT_FUNDS": "Capture could not be refunded due to insufficient funds. Please check to see"
    " if you have sufficient funds in your PayPal account or if the bank account linked to your PayPal account is"
    " verified and has sufficient funds.",
    "PENDING_CAPTURE": "Cannot initiate a refund as the capture is pending. Capture is typically pending when the payer"
    " has funded the transaction using e-check/bank funded.",
    "ORDER_ALREADY_CAPTURED": "Order already captured.If 'intent=CAPTURE' only one capture per order is allowed.",
    "ORDER_ALREADY_AUTHORIZED": "Order already authorized.If 'intent=AUTHORIZE' only one authorization per order is"
    " allowed.",
    "ACTION_DOES_NOT_MATCH_INTENT": "Order was created with an intent to 'CAPTURE'. Please use"
    " v2/checkout/orders/order_id/capture to complete the transaction or alternately Create an order with an intent of"
    " 'AUTHORIZE'.",
    "AUTHORIZATION_VOIDED": "A voided authorization cannot be captured or reauthorized. ",
    "AUTHORIZATION_EXPIRED": "An expired authorization cannot be captured.",
    "AUTHORIZATION_ALREADY_CAPTURED": "Authorization has previously been captured.",
    "AUTH_CAPTURE_CURRENCY_MISMATCH": "Currency of capture must be the same as currency of authorization.",
    "MAX_CAPTURE_AMOUNT_EXCEEDED": "Capture amount exceeds allowable limit. Please contact customer service or your"
    " account manager to request the change to your overage limit. The default overage limit is 115%, which allows the"
    " sum of all captures to be up to 115% "
    "of the order amount. The ability to over capture is subjected to regulatory approvals.",
    "PREVIOUSLY_CAPTURED": "Authorization has been previously captured and hence cannot be voided.",
    "PREVIOUSLY_VOIDED": "Authorization has been previously voided and hence cannot be voided again.",
    "CAPTURE_FULLY_REFUNDED": "The capture has already been fully refunded",
    "REFUND_CAPTURE_CURRENCY_MISMATCH": "Refund must be in the same currency as the capture",
    "REFUND_AMOUNT_EXCEEDED": "The refund amount must be less than or equal to the capture amount that has not yet been"
    " refunded.",
    "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK": "Refunds are not allowed on this capture due to a chargeback on the card"
    " or bank. Please contact the payee to resolve the chargeback.",
}  # fmt: skip

NOT_APPROVED = (
    "Payer has not yet approved the Order for payment. Please redirect the payer to the 'rel':'approve' url returned as"
    " part of the HATEOAS links within the Create Order call"
)


def refused(
    status: int, issue: str, *, field: str | None = None, value: str | None = None, said: str | None = None
) -> Refused:
    """A refusal with one detail; `field` is a JSON pointer into the body."""
    name, message = NAMES[status]
    detail: Json = {"issue": issue, "description": said or ISSUES.get(issue, issue)}
    if field is not None:
        detail |= {"field": field, "location": "body"}
    if value is not None:
        detail["value"] = value
    body = {"name": name, "message": message, "details": [detail], "links": [information(issue)]}
    return Refused(Answer(status, body))


def refuse_if_asked(call: Call) -> None:
    """Raises the refusal that `PayPal-Mock-Response` asks for (developer.paypal.com, negative testing)."""
    try:
        code = json.loads(call.header("paypal-mock-response") or "{}")["mock_application_codes"]
    except (ValueError, KeyError, TypeError):
        return
    raise refused(422, str(code))


def information(issue: str) -> Json:
    href = f"https://developer.paypal.com/docs/api/orders/v2/#error-{issue}"
    return {"href": href, "rel": "information_link", "method": "GET"}


def plain(status: int, name: str, message: str, issue: str, *, field: str | None = None) -> Refused:
    """A refusal in the shape of the v1 APIs (payouts, disputes, notifications)."""
    detail = {"issue": issue} | ({"field": field, "location": "body"} if field else {})
    link = "https://developer.paypal.com/docs/api/"
    return Refused(
        Answer(status, {"name": name, "message": message, "information_link": link, "details": [detail], "links": []})
    )


def missing(id: str) -> Refused:
    return refused(404, "INVALID_RESOURCE_ID", value=id)
