"""A self-hosted notification gateway."""

__version__ = "0.1.0"
