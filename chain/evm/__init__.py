"""What is particular to Ethereum-like chains: JSON-RPC, block and transaction encodings, transfers. Web3 only here."""
