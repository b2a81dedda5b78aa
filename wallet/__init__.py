"""What users do, across the book, the chain and the bank: transfers, quotes and conversions, deposits, withdrawals."""
