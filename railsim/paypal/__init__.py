"""PayPal's REST API: Orders v2, Payments v2, Payouts v1, Disputes v1, Notifications v1, Transaction Search v1."""
