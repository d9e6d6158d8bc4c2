"""The store: SQLite embedded, PostgreSQL when one machine is outgrown, behind one contract."""
