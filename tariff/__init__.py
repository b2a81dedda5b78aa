"""What users pay and how much they may move: fees, free allowances, limits and tiers."""
