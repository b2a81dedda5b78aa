"""Simulators of payment providers (Stripe, PayPal, Square): servers for tests and developers, never for real money."""
