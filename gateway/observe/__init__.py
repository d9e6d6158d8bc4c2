"""What operators see of a running gateway: log lines and figures, neither of which carries an address or a body."""
