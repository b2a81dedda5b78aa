"""Benchmarks: how fast the book, the API and the audit are, beside yardsticks that do the same work another way."""
