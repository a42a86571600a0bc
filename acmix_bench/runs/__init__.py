"""Where a cell runs, and what is kept of it."""
