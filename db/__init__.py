"""The database: its server, engine, column types and migrations. What the rows mean is each package's own affair."""
