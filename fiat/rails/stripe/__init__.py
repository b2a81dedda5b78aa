"""Stripe as a rail: PaymentIntents by card, refunds, disputes, settlements, saved cards; by its official SDK."""
