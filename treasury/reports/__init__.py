"""Reports: the house's figures for a period, and a user's statement, the same bytes each time that they are printed."""
