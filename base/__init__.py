"""What every layer may use: time, randomness, identifiers, error roots, settings. No money, no I/O policy."""
