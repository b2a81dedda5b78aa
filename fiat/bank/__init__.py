"""The bank rail: statement files in, users credited by their payment reference. Sends no payment."""
