"""`gateway vapid`: the key pair that browsers' push services know this gateway by."""

from __future__ import annotations

import click

from gateway.cli.options import fail


@click.command()
def vapid() -> None:
    """Make a VAPID key pair for web push (RFC 8292) and print it.

    The private key goes into the provider's `private_key`, best through the environment; the public one into the page
    that subscribes browsers. Make it once: with another pair every subscription is void.
    """
    from gateway.config.faults import AdapterFault
    from gateway.registry import Registry

    try:
        make = getattr(Registry.load().adapter("push_web"), "new_keys", None)
    except AdapterFault as fault:
        fail(str(fault))
    if make is None:
        fail("The adapter push_web that is installed makes no keys.")
    pair = make()
    click.echo(f"private_key = {pair.private_key}")
    click.echo(f"public_key  = {pair.public_key}")
