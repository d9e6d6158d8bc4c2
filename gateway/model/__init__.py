"""The gateway's words: what a service asks for, what becomes of it, and in which order states may follow."""
