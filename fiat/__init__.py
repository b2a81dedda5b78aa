"""Rails: how money of banks and payment providers comes in and goes out. No balances of its own: the book has those."""
