"""The certificates that a client of ours trusts, read once in each process: reading them takes some 30 ms of CPU.

Every `httpx` client that is made without it reads them anew, those too that only ever speak plain HTTP on loopback.
"""

import ssl
from functools import cache


@cache
def trusted_roots() -> ssl.SSLContext:
    """TLS as a client, with the roots that certifi ships; hosts and certificates are checked. Never alter it.

    The same as httpx makes for itself where the environment isn't to be trusted.
    """
    import certifi  # here: most commands speak to nobody

    return ssl.create_default_context(cafile=certifi.where())
