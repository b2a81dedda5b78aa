"""Rails of payment providers: one protocol for all, what we keep of each object, and the steps that follow it."""
