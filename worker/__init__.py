"""The worker: the process that moves everything on, one bounded step after another."""
