"""The schema's history, one revision a file, in one line: each names its predecessor. Applied by `db.migrate`."""
