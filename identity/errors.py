"""What identity raises.

OnebookError
└── Rejected
    ├── InvalidHandle        not 3 to 32 of a-z, 0-9 and _
    ├── InvalidKeyRequest    a key that nobody should be given: no scope, unknown scope, expiry in the past, ...
    ├── HandleTaken          another user has this handle
    ├── NotAuthenticated
    │   ├── WrongKey         no key of ours: mistyped, made up, or of another book
    │   ├── KeyExpired       its time is over
    │   └── KeyRevoked       it was taken back
    ├── ScopeMissing         the key may not do this; names the scope that may
    └── NotFound
        ├── UnknownUser      nobody has this id or handle
        └── UnknownKey       no key has this id
"""

from base.errors import NotFound, Rejected


class InvalidHandle(Rejected):
    default_code = "invalid_handle"


class InvalidKeyRequest(Rejected):
    default_code = "invalid_key_request"


class HandleTaken(Rejected):
    default_code = "handle_taken"


class NotAuthenticated(Rejected):
    default_code = "not_authenticated"


class WrongKey(NotAuthenticated):
    default_code = "wrong_key"


class KeyExpired(NotAuthenticated):
    default_code = "key_expired"


class KeyRevoked(NotAuthenticated):
    default_code = "key_revoked"


class ScopeMissing(Rejected):
    default_code = "wrong_scope"


class UnknownUser(NotFound):
    default_code = "unknown_user"


class UnknownKey(NotFound):
    default_code = "unknown_key"
