"""HTTP in: what `API.md` promises, and nothing that decides."""
