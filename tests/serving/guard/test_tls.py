import asyncio
import socket
import ssl
import threading
from contextlib import contextmanager

import grpc
import httpx
import pytest
import uvicorn
import uvloop
from cryptography import x509
from cryptography.x509.oid import NameOID

from bonexray.errors import ConfigError
from serving.guard.tls import Tls
from tests.serving.guard.certificates import write_pair


@pytest.fixture
def files(tmp_path):
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    write_pair(*files, "one")
    return files


def common_name(der):
    name = x509.load_der_x509_certificate(der).subject
    return name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


class LoopbackServer(threading.Thread):
    """Takes one connection after the other with a context, and answers a byte."""

    def __init__(self, context):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.context = context
        self.start()

    def run(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            raw.settimeout(5)
            try:
                with self.context.wrap_socket(raw, server_side=True) as connection:
                    connection.sendall(b"!")
                    connection.recv(1)
            except OSError:
                raw.close()


@pytest.fixture
def shown(files):
    """Shakes hands with a server on the files, and returns whose certificate it showed."""
    server = LoopbackServer(Tls(*files).context())

    def shake(server_name=None, **limits):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        for name, value in limits.items():
            setattr(client, name, value)
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw,
            client.wrap_socket(raw, server_hostname=server_name) as connection,
        ):
            assert connection.recv(1) == b"!"
            return common_name(connection.getpeercert(binary_form=True)), connection.version()

    yield shake
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()
    server.join()


def test_who_connects_after_a_renewal_is_shown_the_new_certificate(files, shown):
    assert shown() == ("one", "TLSv1.3")
    assert shown("localhost") == ("one", "TLSv1.3")
    write_pair(*files, "two")
    assert shown() == ("two", "TLSv1.3")
    write_pair(*files, "three", kind="rsa")  # whose key is of another kind
    assert shown("localhost") == ("three", "TLSv1.3")


def test_tls_1_2_is_spoken_and_nothing_older(shown):
    assert shown(maximum_version=ssl.TLSVersion.TLSv1_2) == ("one", "TLSv1.2")
    with (
        pytest.warns(DeprecationWarning, match="TLSv1_1"),
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        shown(
            minimum_version=ssl.TLSVersion.TLSv1_1,
            maximum_version=ssl.TLSVersion.TLSv1_1,
        )
    assert shown()[0] == "one"


def test_a_broken_pair_leaves_the_old_one_in_force_and_is_told(files, shown, json_lines):
    certificate, key = files
    other = certificate.with_name("other.crt"), certificate.with_name("other.key")
    write_pair(*other, "two")
    certificate.write_bytes(other[0].read_bytes())  # and the key is still the old one
    assert shown()[0] == "one"
    assert shown()[0] == "one"
    certificate.write_bytes(b"DOE^JANE")
    assert shown()[0] == "one"
    key.unlink()
    assert shown()[0] == "one"
    certificate.write_bytes(other[0].read_bytes())
    key.write_bytes(other[1].read_bytes())
    assert shown()[0] == "two"
    told = json_lines()
    assert [line["event"] for line in told] == ["file_refused"] * 3 + ["file_read_again"]
    assert str(certificate) in told[0]["problem"]
    assert "DOE" not in str(told)


@pytest.mark.parametrize("broken", ["missing", "empty", "swapped", "encrypted"])
def test_a_pair_that_cannot_be_used_stops_the_start(files, broken):
    certificate, key = files
    if broken == "missing":
        key.unlink()
    elif broken == "empty":
        certificate.write_bytes(b"")
    elif broken == "swapped":
        certificate, key = key, certificate
    else:
        write_pair(certificate, key, "one", password=b"secret")
    with pytest.raises(ConfigError, match=r"tls\.crt"):
        Tls(certificate, key)


@contextmanager
def rest_server(context):
    """The stack that serves hospitals: uvicorn on uvloop."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"!"})

    config = uvicorn.Config(app, log_config=None, lifespan="off")
    config.load()
    config.ssl = context
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def test_rest_on_uvloop_shows_a_renewed_certificate_and_keeps_its_connections(files):
    with rest_server(Tls(*files).context()) as port:

        def client():
            trusted = ssl.create_default_context(cafile=str(files[0]))
            return httpx.Client(
                verify=trusted, base_url=f"https://localhost:{port}", trust_env=False
            )

        with client() as before:
            assert before.get("/").text == "!"
            write_pair(*files, "two")
            with client() as after:
                assert after.get("/").text == "!"
            assert before.get("/").text == "!"
        with client() as again:
            assert again.get("/").text == "!"


def test_grpc_shows_a_renewed_certificate_and_survives_a_broken_one(files, json_lines):
    sound = files[0].read_bytes()

    async def answers(port, trusted):
        credentials = grpc.ssl_channel_credentials(trusted)
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            call = channel.unary_unary("/test/Ask")
            return await call(b"?", timeout=5)

    async def run():
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test", {"Ask": handler}),)
        )
        port = server.add_secure_port("localhost:0", Tls(*files).credentials())
        await server.start()
        try:
            assert await answers(port, sound) == b"!"
            files[0].write_bytes(b"broken")
            assert await answers(port, sound) == b"!"
            write_pair(*files, "two")
            assert await answers(port, files[0].read_bytes()) == b"!"
            with pytest.raises(grpc.aio.AioRpcError):
                await answers(port, sound)
        finally:
            await server.stop(None)

    async def answer(_, __):
        return b"!"

    asyncio.run(run())
    assert [line["event"] for line in json_lines()] == ["file_refused", "file_read_again"]
