"""Proxies: whose word counts, what goes through them, and that a refusal by one is certainly not sent."""

from __future__ import annotations

import asyncio

import pytest
from yarl import URL

from channels.contract import SettingsFault, Tools
from channels.http import Answer, Guard, NotSent, Wire, WireSettings
from channels.http_proxy import Proxy, environment_proxy, read_proxy
from tests.support.http_server import HttpServer, Listener, Reply
from tests.support.tls import make_certificates

TOOLS = Tools(provider="test", now=lambda: 0.0, log=lambda *_, **__: None, random=lambda: 0.5)
OUT = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://api.example.com/", {}, None),
        ("https://api.example.com/", {"HTTPS_PROXY": OUT}, OUT),
        ("https://api.example.com/", {"https_proxy": OUT, "HTTPS_PROXY": "http://other"}, OUT),
        ("https://api.example.com/", {"HTTP_PROXY": OUT}, None),
        ("http://api.example.com/", {"http_proxy": OUT}, OUT),
        ("https://api.example.com/", {"ALL_PROXY": OUT}, OUT),
        ("https://api.example.com/", {"HTTPS_PROXY": ""}, None),
        ("https://api.example.com/", {"HTTPS_PROXY": OUT, "NO_PROXY": "*"}, None),
        ("https://api.example.com/", {"HTTPS_PROXY": OUT, "NO_PROXY": "example.com"}, None),
        ("https://api.example.com/", {"HTTPS_PROXY": OUT, "NO_PROXY": "a.test, .example.com"}, None),
        ("https://api.example.com/", {"HTTPS_PROXY": OUT, "no_proxy": "API.EXAMPLE.COM"}, None),
        ("https://api.example.com/", {"HTTPS_PROXY": OUT, "no_proxy": "ample.com"}, OUT),
        ("https://api.example.com:8443/", {"HTTPS_PROXY": OUT, "no_proxy": "example.com:8443"}, None),
        ("https://api.example.com/", {"HTTPS_PROXY": OUT, "no_proxy": "example.com:8443"}, OUT),
        ("https://10.1.2.3/", {"HTTPS_PROXY": OUT, "no_proxy": "10.0.0.0/8"}, None),
        ("https://11.1.2.3/", {"HTTPS_PROXY": OUT, "no_proxy": "10.0.0.0/8"}, OUT),
        ("https://[2001:db8::1]/", {"HTTPS_PROXY": OUT, "no_proxy": "[2001:db8::1]"}, None),
        ("https://127.0.0.1/", {"HTTPS_PROXY": OUT}, None),
        ("https://localhost/", {"HTTPS_PROXY": OUT}, None),
        ("https://[::1]/", {"HTTPS_PROXY": OUT}, None),
    ],
)
def test_the_environment_is_read_as_curl_reads_it(url, environ, expected):
    assert environment_proxy(URL(url), environ) == expected


def test_a_proxy_keeps_its_password_out_of_its_url_and_its_name():
    proxy = read_proxy("http://us%40er:p%3Ass@proxy:3128")
    assert proxy == Proxy(URL("http://proxy:3128"), "Basic dXNAZXI6cDpzcw==")
    assert "ss" not in repr(proxy).replace("Proxy", "")
    assert read_proxy("proxy:3128") == Proxy(URL("http://proxy:3128"))
    assert read_proxy("socks5://proxy:1080") is None


async def test_plain_http_goes_through_the_proxy_with_its_credentials():
    async with HttpServer(Reply(200, json={"via": "proxy"})) as proxy:
        settings = WireSettings(proxy=proxy.url.replace("//", "//user:pass@"))
        wire = Wire(settings, TOOLS, base_url="http://api.example.com")
        answer = await wire.post("/v1", json={})
        await wire.aclose()
    assert isinstance(answer, Answer)
    assert proxy.requests[0].target == "http://api.example.com/v1"
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"


async def test_the_environments_proxy_is_used_and_direct_switches_it_off():
    async with HttpServer(Reply(200)) as proxy:
        environ = {"HTTP_PROXY": proxy.url}
        through = Wire(WireSettings(), TOOLS, base_url="http://api.example.com", environ=environ)
        assert isinstance(await through.post("/", json={}), Answer)
        await through.aclose()
        around = Wire(WireSettings(proxy="direct"), TOOLS, base_url=proxy.url, environ=environ)
        assert isinstance(await around.post("/direct", json={}), Answer)
        await around.aclose()
    assert [request.target for request in proxy.requests] == ["http://api.example.com/", "/direct"]


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_tunnel_that_the_proxy_refuses_is_not_sent(status):
    async with HttpServer(Reply(status)) as proxy:
        wire = Wire(WireSettings(proxy=proxy.url), TOOLS, base_url="https://api.example.com")
        result = await wire.post("/", json={"to": "ada@example.com"})
        await wire.aclose()
    assert result == NotSent("the proxy refused to connect")
    assert [request.method for request in proxy.requests] == ["CONNECT"]


async def test_a_proxy_that_is_not_there_is_not_sent():
    wire = Wire(WireSettings(proxy="http://127.0.0.1:9"), TOOLS, base_url="https://api.example.com")
    assert await wire.post("/", json={}) == NotSent("the proxy cannot be reached")
    await wire.aclose()


async def test_a_socks_proxy_in_the_environment_is_not_silently_gone_around():
    environ = {"ALL_PROXY": "socks5://proxy:1080"}
    wire = Wire(WireSettings(), TOOLS, base_url="https://api.example.com", environ=environ)
    assert isinstance(await wire.post("/", json={}), NotSent)
    await wire.aclose()


async def test_a_tunnel_carries_tls_to_the_server_itself(tmp_path):
    certificates = make_certificates(tmp_path, hosts=("api.example.com",))
    tunnels = []

    async def pump(reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def tunnel(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        tunnels.append(head.split(b"\r\n")[0])
        onward = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))
        finally:
            onward[1].close()

    async with HttpServer(Reply(202), tls=certificates.server_context()) as server, Listener(tunnel) as proxy:
        at = f"http://127.0.0.1:{await proxy.start('127.0.0.1', 0)}"
        settings = WireSettings(proxy=at, ca_file=str(certificates.ca_file))
        wire = Wire(settings, TOOLS, base_url="https://api.example.com")
        answer = await wire.post("/v1", json={"a": 1})
        await wire.aclose()
    assert isinstance(answer, Answer)
    assert tunnels == [b"CONNECT api.example.com:443 HTTP/1.1"]
    assert (server.requests[0].path, server.requests[0].json()) == ("/v1", {"a": 1})


def test_where_callers_name_the_addresses_a_proxy_is_a_fault():
    with pytest.raises(SettingsFault, match="bypass"):
        Wire(WireSettings(proxy=OUT), TOOLS, guard=Guard())
