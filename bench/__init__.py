"""Benchmarks: how fast book, API, audit and signer are, beside yardsticks that do the same work another way."""
