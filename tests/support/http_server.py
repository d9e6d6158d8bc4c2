"""The scriptable HTTP server for the tests of REST adapters; it is shipped, since adapters of other packages need it.

See `channels.testing_server` for how to use it. With TLS:

    certificates = make_certificates(tmp_path)          # tests.support.tls
    async with HttpServer(Reply(201), tls=certificates.server_context(), host="localhost") as server:
        settings = AdapterSettings(ca_file=str(certificates.ca_file), ...)
"""

from channels.testing_server import Answering, Do, Held, HttpServer, Listener, Received, Reply

__all__ = ["Answering", "Do", "Held", "HttpServer", "Listener", "Received", "Reply"]
