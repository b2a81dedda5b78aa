"""PayPal as a rail: Orders v2, Payments v2, Payouts v1 and Customer Disputes v1 over httpx. Start at `rail`."""
