"""What the HTTP edge itself refuses, before any service is asked. `api.problems` gives each its status.

OnebookError
└── Rejected
    ├── NoKey                     no API key was sent
    ├── RateExceeded              this key has made too many requests; says when to try again
    ├── IdempotencyKeyMissing     a request that moves money came without an Idempotency-Key
    ├── StillUnderWay             the first request with this key hasn't been answered yet
    ├── IdempotencyKeyInvalid     the Idempotency-Key is empty, too long or not printable ASCII
    ├── MalformedBody             not JSON, or JSON that could be read in two ways
    ├── BodyTooLarge              the body has more bytes than this path takes
    ├── WrongContentType          the body isn't declared as what this path takes
    ├── InvalidRequest            a field is missing, unknown, or of the wrong kind; lists all of them
    ├── UnknownVersion            no API version has this date
    └── NotFound
        └── UnknownPath           nothing is at this path
"""

from base.errors import NotFound, Rejected


class NoKey(Rejected):
    default_code = "no_key"


class RateExceeded(Rejected):
    default_code = "rate_exceeded"


class IdempotencyKeyMissing(Rejected):
    default_code = "idempotency_key_missing"


class StillUnderWay(Rejected):
    default_code = "request_under_way"


class IdempotencyKeyInvalid(Rejected):
    default_code = "idempotency_key_invalid"


class MalformedBody(Rejected):
    default_code = "malformed_body"


class BodyTooLarge(Rejected):
    default_code = "body_too_large"


class WrongContentType(Rejected):
    default_code = "wrong_content_type"


class InvalidRequest(Rejected):
    default_code = "invalid_request"


class UnknownVersion(Rejected):
    default_code = "unknown_version"


class UnknownPath(NotFound):
    default_code = "unknown_path"
