"""Stripe's API as of 2026-05-27: payments, refunds, disputes, the balance and its payouts, saved cards."""
