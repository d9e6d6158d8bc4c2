"""Turns a template or a `content` request, with data, into what one channel shows. Knows no storage and no HTTP."""
