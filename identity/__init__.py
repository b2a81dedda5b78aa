"""Who asks: people, their handles, their API keys and what each key may do. No money, no HTTP."""
