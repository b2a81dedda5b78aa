"""Square's API: payments, refunds, disputes, payouts, locations, customers, cards."""
