"""The command line. Exit codes: 0 done, 1 failed, 2 usage or configuration.

Owns words and exit codes. What a command needs is imported when it runs, so that `gateway --help` is quick.
"""

from __future__ import annotations

import click

import gateway
from gateway.cli.keys import keys
from gateway.cli.providers import providers
from gateway.cli.replay import replay
from gateway.cli.send import send
from gateway.cli.serve import check, migrate, serve, work
from gateway.cli.templates import templates
from gateway.cli.vapid import vapid

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gateway.__version__, prog_name="gateway")
def main() -> None:
    """Run and look after a self-hosted notification gateway.

    One HTTP request in, the right message to the right person out. Without a configuration, `gateway serve` is a
    development gateway on SQLite that captures every message.

    Exit codes: 0 done, 1 failed, 2 usage or configuration.
    """


for _command in (serve, work, migrate, check, send, keys, templates, providers, replay, vapid):
    main.add_command(_command)
