"""The database of results and the journals that feed it."""
