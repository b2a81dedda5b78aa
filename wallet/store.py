"""The wallet's only SQL: rows of its own tables, and its reads of the chain's."""
