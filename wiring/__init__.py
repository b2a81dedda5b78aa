"""Where the parts are put together: settings read, services built, sibling protocols adapted to one another."""
