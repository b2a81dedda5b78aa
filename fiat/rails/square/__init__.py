"""Square as a rail: payments by card, refunds, disputes, payouts as settlements, cards on file; by its official SDK."""
