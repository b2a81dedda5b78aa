"""Which database this is: another answer after it was put back from a backup, since then it may have forgotten.

What a database remembers of indexes that were given out is worth nothing once it was restored. So these stand with the
incarnation in which they were drawn, and in another one none of them is used: the signer's journal gives new ones.
"""

from typing import Any

from sqlalchemy import literal_column

_HERE = """concat_ws(':',
    (SELECT system_identifier FROM pg_control_system()),
    left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (SELECT oid FROM pg_database WHERE datname = current_database()),
    pg_relation_filenode('chain_address_counters'))"""
"""Cluster, timeline, database, and the table's file: a dump that is loaded, another server, or a recovery to a point in
time changes one of them. Not told from the original: the server's very files put back, as by a machine's snapshot."""


def incarnation() -> Any:
    """In a query: the name of this incarnation."""
    return literal_column(_HERE)
