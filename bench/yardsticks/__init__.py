"""The same work done another way: the same rows, the same checks, so that a ratio says what the design is worth."""
