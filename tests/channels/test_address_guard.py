"""Nobody makes us call where only we can: every notation, every network, rebinding, redirects, the words of refusal."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import aiohttp.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.address_guard import AddressRefused, Guard, GuardedResolver
from channels.contract import Tools
from channels.http import Answer, NotSent, Wire, WireSettings
from tests.support.http_server import Do, HttpServer, Reply
from tests.support.tls import make_certificates

TOOLS = Tools(provider="test", now=lambda: 0.0, log=lambda *_, **__: None, random=lambda: 0.5)
GUARD = Guard()

# --- what is written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "https://EXAMPLE.com:443/a/b?c=d&e=%20#f",
        "https://fcm.googleapis.com/fcm/send/abc:DEF_ghi-jkl",
        "https://hooks.a-b.example.co.uk/x",
        "https://xn--bcher-kva.example/",
        "https://93.184.216.34/hook",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/hook",
        "https://1and1.example.com/",
    ],
)
def test_ordinary_addresses_pass(url):
    assert GUARD.check_url(url) is None


@pytest.mark.parametrize(
    "url",
    [
        # Scheme, port, user.
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https://",
        "",
        "https://example.com:22/",
        "https://example.com:80/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        # IPv4, as somebody's parser reads it.
        "https://127.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0x7f.1/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://127.0.0.01/",
        "https://127.0.0.1./",
        "https://127.0.0.1.:443/",
        "https://0/",
        "https://0.0.0.0/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://example.0x7f/",
        "https://example.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://168.63.129.16/",
        "https://100.100.100.200/",
        "https://10.0.0.1/",
        "https://255.255.255.255/",
        # IPv6.
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[::127.0.0.1]/",
        "https://[::ffff:0:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[64:ff9b::8.8.8.8]/",
        "https://[64:ff9b:1::1]/",
        "https://[2002:7f00:1::]/",
        "https://[2001:0:1::1]/",
        "https://[2001:db8::1]/",
        "https://[3fff::1]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[2606:2800:220:1::1%25eth0]/",
        "https://[fc00::1]/",
        "https://[fd00:ec2::254]/",
        "https://[ff02::1]/",
        "https://[fec0::1]/",
        "https://[]/",
        "https://[example.com]/",
        "https://::1/",
        "https://[v1.a]/",
        # Names.
        "https://localhost/",
        "https://LOCALHOST/",
        "https://a.localhost/",
        "https://localhost.localdomain/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://router.home.arpa/",
        "https://intranet/",
        "https://example.com./",
        "https://localhost./",
        "https://.example.com/",
        "https://a..example.com/",
        "https://-a.example.com/",
        "https://a-.example.com/",
        "https://a_b.example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://" + "a." * 127 + "example.com/",
        "https://xn--a.example/",
        "https://xn--.example/",
        "https://ex%61mple.com/",
        "https://127.0.0.1%2f@example.com/",
        "https://bücher.example/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://①②⑦.0.0.1/",
        "https://127。0。0。1/",
        "https://exam\u00adple.com/",
        "https://ⓛocalhost/",
        # What cuts a URL in two.
        "https://example.com\\@127.0.0.1/",
        "https://example.com\t/",
        " https://example.com/",
        "https://example.com/\r\nHost: evil",
        "https://example.com/ HTTP/1.1",
        "https://example.com/\x00",
        "https://exa\nmple.com/",
        "https://example.com/ü",
        "https://example.com/" + "a" * 3000,
    ],
)
def test_everything_else_is_refused(url):
    fault = GUARD.check_url(url)
    assert fault
    assert "127" not in fault


def test_hosts_for_tests_may_use_http_but_not_reach_private_addresses():
    guard = Guard(allow_http_hosts=("hooks.test", "sink"), ports=(443, 8080))
    assert guard.check_url("http://hooks.test/") is None
    assert guard.check_url("http://sink:8080/") is None
    assert guard.check_url("http://sink:9090/") is not None
    assert guard.check_url("http://other.test/") is not None
    assert guard.check_url("http://127.0.0.1/") is not None


def test_configured_networks_and_ports_pass():
    guard = Guard(allow_private=("10.1.0.0/16", "fd00::/8"), ports=(443, 8443))
    assert guard.check_url("https://10.1.2.3:8443/") is None
    assert guard.check_url("https://[fd00::1]/") is None
    assert guard.check_url("https://10.2.2.3/") is not None
    assert guard.check_url("https://[::ffff:10.1.2.3]/") is not None
    assert guard.check_url("https://localhost/") is not None


def test_a_network_that_was_named_may_be_called_without_tls_where_that_is_allowed():
    guard = Guard(allow_private=("10.1.0.0/16", "fd00::/8"), plain_private=True)
    for good in ("http://10.1.2.3:8080/hook", "https://10.1.2.3:8443/", "http://[fd00::1]:9000/", "http://10.1.2.3/"):
        assert guard.check_url(good) is None, good
    for bad in (
        "http://10.2.2.3:8080/",
        "http://127.0.0.1:8080/",
        "http://8.8.8.8/",
        "https://8.8.8.8:8443/",
        "http://hooks.example.com/",
        "http://10.1.2.3.example.com/",
        "http://[::ffff:10.1.2.3]/",
        "http://167838211:8080/",
        "ftp://10.1.2.3/",
        "http://8.8.8.8@10.1.2.3/",
    ):
        assert guard.check_url(bad) is not None, bad


# --- what is resolved -----------------------------------------------------------------------------------------------


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_allowed(address):
    if not address.is_global or address.is_multicast:
        assert not GUARD.allows(str(address))


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_notation_is_never_allowed(address):
    number = int(address)
    for prefix in ("::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"):
        assert not GUARD.allows(str(IPv6Address(int(IPv6Address(prefix)) + number)))
    assert not GUARD.allows(str(IPv6Address((0x2002 << 112) + (number << 80))))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_public_addresses_are_allowed(address):
    assert GUARD.allows(address)


@pytest.mark.parametrize("address", ["", "example.com", "fe80::1%eth0", "2606:4700::1111%1", "127.1", "8.8.8"])
def test_what_is_no_plain_address_is_not_allowed(address):
    assert not GUARD.allows(address)


class Names(aiohttp.abc.AbstractResolver):
    """Gives one answer after the other, the last for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        kind = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            {"hostname": host, "host": each, "port": port, "family": kind[ip_address(each).version], "proto": 6}
            | {"flags": 0}
            for each in answer
        ]

    async def close(self):
        pass


@pytest.mark.parametrize(
    "answer", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["::ffff:8.8.8.8"], ["64:ff9b::808:808"], ["0.0.0.0"]]
)
async def test_one_forbidden_address_spoils_the_answer(answer):
    with pytest.raises(AddressRefused):
        await GuardedResolver(GUARD, Names(answer)).resolve("example.com", 443)


async def test_a_socket_to_a_forbidden_address_is_never_made():
    for address in ("127.0.0.1", "::1", "169.254.169.254"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with pytest.raises(AddressRefused):
            GUARD.open_socket((family, socket.SOCK_STREAM, 6, "", (address, 443)))


# --- what is dialled, with real servers -----------------------------------------------------------------------------


def guarded(guard, names=None, **settings):
    return Wire(WireSettings(connect_timeout_s=2, **settings), TOOLS, guard=guard, resolver=names, environ={})


async def post(wire, url):
    try:
        return await wire.post(url, json={})
    finally:
        await wire.aclose()


async def test_the_checked_address_is_dialled_and_the_name_is_kept_for_host_and_certificate(tmp_path):
    certificates = make_certificates(tmp_path, hosts=("hooks.example.com",))
    async with HttpServer(tls=certificates.server_context()) as server:
        names = Names(["127.0.0.1"])
        guard = Guard(allow_private=("127.0.0.0/8",), ports=(server.port,))
        wire = guarded(guard, names, ca_file=str(certificates.ca_file))
        result = await post(wire, f"https://hooks.example.com:{server.port}/hook")
    assert isinstance(result, Answer)
    assert server.requests[0].headers["host"] == f"hooks.example.com:{server.port}"
    assert names.asked == 1


async def test_a_name_that_changes_its_answer_gets_nothing_by_it():
    # Allowed when it is checked, the victim when it would be asked again: there is no second question.
    async with HttpServer() as checked, HttpServer() as victim:
        guard = Guard(allow_private=("127.0.0.1/32",), ports=(checked.port,), allow_http_hosts=("rebind.test",))
        names = Names(["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"])
        wire = guarded(guard, names, idle_s=0.001)
        url = f"http://rebind.test:{checked.port}/"
        first = await wire.post(url, json={})
        checked.cut()
        await asyncio.wait_for(checked.left.wait(), 5)
        second = await wire.post(url, json={})
        third = await wire.post(url, json={})
        await wire.aclose()
    assert isinstance(first, Answer)
    assert isinstance(second, NotSent)
    assert isinstance(third, NotSent)
    assert names.asked == 3
    assert (len(checked.requests), checked.connections, victim.connections) == (1, 1, 0)


async def test_a_name_with_one_forbidden_address_is_not_dialled_at_the_others():
    async with HttpServer() as server:
        guard = Guard(allow_private=("127.0.0.1/32",), ports=(server.port,), allow_http_hosts=("both.test",))
        wire = guarded(guard, Names(["127.0.0.1", "10.0.0.1"]))
        assert isinstance(await post(wire, f"http://both.test:{server.port}/"), NotSent)
        assert server.connections == 0


async def test_the_notation_is_checked_again_when_it_is_dialled():
    async with HttpServer() as server:
        guard = Guard(allow_private=("127.0.0.1/32",), allow_http_hosts=("127.0.0.1",))
        for url in (server.url, f"http://plain.example.com:{server.port}/", f"http://127.1:{server.port}/"):
            assert isinstance(await post(guarded(guard, Names(["127.0.0.1"])), url), NotSent)
        assert server.connections == 0


async def test_the_socket_is_judged_again_whatever_the_resolver_made_the_connector_dial():
    class Sly(dict):
        """Shows a public address to the first who looks, and the inside to the one who dials."""

        looked = 0

        def __getitem__(self, key):
            if key != "host":
                return super().__getitem__(key)
            self.looked += 1
            return "8.8.8.8" if self.looked == 1 else "127.0.0.1"

    class SlyNames(Names):
        async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
            return [Sly(each) for each in await super().resolve(host, port, family)]

    async with HttpServer() as inside:
        guard = Guard(ports=(inside.port,), allow_http_hosts=("sly.test",))
        result = await post(guarded(guard, SlyNames(["8.8.8.8"])), f"http://sly.test:{inside.port}/")
        assert isinstance(result, NotSent)
        assert inside.connections == 0


async def test_a_redirect_to_the_inside_is_not_followed():
    async with HttpServer() as inside:
        async with HttpServer(Reply(307, {"Location": inside.url})) as outside:
            guard = Guard(allow_private=("127.0.0.0/8",), ports=(outside.port,), allow_http_hosts=("127.0.0.1",))
            answer = await post(guarded(guard), outside.url)
        assert answer.status == 307
        assert inside.connections == 0


async def test_every_refusal_has_the_same_words_and_none_dials():
    async with HttpServer() as inside:
        names = Names(["127.0.0.1"])
        refused_port = inside.port
        results = [
            await post(guarded(Guard(ports=(443, refused_port)), names), url)
            for url in (
                f"https://127.0.0.1:{refused_port}/",
                f"https://rebind.example.com:{refused_port}/",
                f"https://localhost:{refused_port}/",
                "https://10.0.0.1/",
                "http://example.com/",
                "not a url",
            )
        ]
        assert inside.connections == 0
    assert len({result.detail for result in results}) == 1
    assert all(isinstance(result, NotSent) for result in results)


async def test_a_closed_port_a_silent_one_and_a_forbidden_address_are_told_in_the_same_words():
    async with HttpServer(Do.NO_HANDSHAKE) as silent, HttpServer(Do.REFUSE) as closed:
        guard = Guard(allow_private=("127.0.0.1/32",), ports=(closed.port, silent.port))
        wires = [
            Wire(WireSettings(connect_timeout_s=0.3), TOOLS, guard=guard, resolver=Names(answer), environ={})
            for answer in (["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"])
        ]
        ports = (closed.port, silent.port, closed.port)
        results = [await post(wire, f"https://a.example.com:{port}/") for wire, port in zip(wires, ports, strict=True)]
    assert len(set(results)) == 1
    assert isinstance(results[0], NotSent)


async def test_a_name_is_asked_once_for_each_connection_and_a_kept_one_asks_no_more():
    async with HttpServer() as server:
        guard = Guard(allow_private=("127.0.0.1/32",), ports=(server.port,), allow_http_hosts=("sink.test",))
        names = Names(["127.0.0.1"])
        wire = guarded(guard, names)
        for _ in range(3):
            assert isinstance(await wire.post(f"http://sink.test:{server.port}/", json={}), Answer)
        await wire.aclose()
    assert (names.asked, server.connections) == (1, 1)


async def test_the_environments_proxy_is_not_used_where_callers_name_the_address():
    async with HttpServer() as server, HttpServer() as proxy:
        guard = Guard(allow_private=("127.0.0.1/32",), ports=(server.port,), allow_http_hosts=("sink.test",))
        environ = {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url}
        wire = Wire(WireSettings(), TOOLS, guard=guard, resolver=Names(["127.0.0.1"]), environ=environ)
        assert isinstance(await post(wire, f"http://sink.test:{server.port}/"), Answer)
        assert proxy.connections == 0


async def test_the_httpx_client_is_guarded_too():
    async with HttpServer() as inside:
        wire = guarded(Guard(ports=(inside.port,)))
        with pytest.raises(Exception, match="could not be reached or may not be called"):
            await wire.client.get(f"https://127.0.0.1:{inside.port}/")
        await wire.aclose()
        assert inside.connections == 0


def test_addresses_are_compared_as_numbers():
    assert not GUARD.allows(str(IPv4Address(0x7F000001)))
    assert GUARD.check_url("https://[2606:4700:0:0:0:0:0:1111]/") is None
