"""The exchange: what one asset is worth in another, by which sources, and what the house holds and earns by it.

Rates are exact ratios. Start reading at `rates`, `pricing` and `agreeing`.
"""
