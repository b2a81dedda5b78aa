"""The book: one account model for every asset, in which nothing moves except by commands.

`core` is the specification (pure). `memory` and `service` are the two engines that must agree with it.
"""
