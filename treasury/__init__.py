"""Treasury proves that the book, the chain and the bank agree, and moves the house's own money by evidence."""
