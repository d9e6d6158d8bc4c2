"""Channel adapters: one file per kind of provider, none of which knows the gateway."""
