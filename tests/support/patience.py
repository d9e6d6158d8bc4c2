"""How long a test waits for what should be so at once."""

from typing import Final

PATIENCE_S: Final = 20.0
"""A busy machine is no fault of the code. Shorter than the limits (30 s and more) that would end a real standstill."""
