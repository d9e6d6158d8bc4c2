"""What every channel shares: retry, consent, rate limits, breakers and the staging allowlist."""
