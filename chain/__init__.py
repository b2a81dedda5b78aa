"""Chains as witnesses and as rails: follow their blocks, know own addresses, send what was signed. No book, no keys."""
