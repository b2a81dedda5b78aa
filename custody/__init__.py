"""Keys and the process that alone may use them: seeds, derivation, key files, policy, journal, signer and its client.

Not here: what to pay and when (wallet, chain), the database, and any talk with a node.
"""
