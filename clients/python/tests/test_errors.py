"""Calls that are refused or break, and clients that are used wrongly."""

from __future__ import annotations

import http.server
import multiprocessing
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from servers import SMALL_POOL, Server

from sandpool import (
    TLS,
    BadToken,
    CallCancelled,
    Client,
    ConnectionLost,
    Execution,
    ForkedProcess,
    PermissionDenied,
    SandpoolError,
    ServiceError,
    Started,
    Unauthenticated,
    Unimplemented,
    Unreachable,
)
from sandpool.v1 import server_pb2, server_pb2_grpc

TOKENS = """
[[token]]
name = "agents"
role = "caller"
token = "0123456789abcdef"
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with tls.crt and tls.key."""
    directory = tmp_path_factory.mktemp("tls")
    command: list[str | Path] = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", directory / "tls.key"),
        *("-addext", "subjectAltName=DNS:localhost", "-out", directory / "tls.crt"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (directory / "tokens.toml").write_text(TOKENS)
    return directory


@pytest.fixture(scope="module")
def secure(certificate: Path) -> Iterator[str]:
    """The port of a server with TLS and tokens."""
    config = (
        f'[tls]\ncertificate = "{certificate}/tls.crt"\nkey = "{certificate}/tls.key"\n'
        f'[access]\ntokens = "{certificate}/tokens.toml"\n{SMALL_POOL}'
    )
    with Server(config) as server:
        yield server.address.rpartition(":")[2]


def test_a_certificate_and_a_token_let_in(secure: str, certificate: Path) -> None:
    tls = TLS(ca=(certificate / "tls.crt").read_bytes())
    with Client(f"localhost:{secure}", token="0123456789abcdef", tls=tls) as client:
        assert client.run("print(1)").stdout == "1\n"
        with pytest.raises(PermissionDenied):
            client.resize_pool("default", min_idle=2)
    named = TLS(ca=tls.ca, server_name="localhost")
    for address in (f"127.0.0.1:{secure}", f"https://127.0.0.1:{secure}"):
        with (
            Client(address, token="wrong" * 5, tls=named) as client,
            pytest.raises(Unauthenticated),
        ):
            client.run("print(1)")


def test_a_certificate_that_nobody_knows_is_told(secure: str) -> None:
    with (
        Client(f"https://localhost:{secure}") as client,
        pytest.raises(Unreachable, match="certificate"),
    ):
        client.run("1")


def test_a_tls_port_without_tls_is_told(secure: str) -> None:
    with Client(f"localhost:{secure}") as client, pytest.raises(Unreachable, match="tls=True"):
        client.run("1")


def test_nobody_there_is_told_with_the_address_and_how_to_start_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with Client(address) as client, pytest.raises(Unreachable) as refused:
            client.run("1")
    assert address in str(refused.value)
    assert "sandpool serve" in str(refused.value)
    with Client("no-such-host.invalid:50051") as client, pytest.raises(Unreachable):
        client.run("1")


def test_who_does_not_answer_is_given_up_in_time() -> None:
    # It listens, and nobody ever accepts or answers.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, connect_timeout=0.5) as client, pytest.raises(Unreachable):
            client.run("1")


def test_an_http_server_is_told() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with Client(f"127.0.0.1:{server.server_port}") as client:
            with pytest.raises((Unreachable, Unimplemented)) as refused:
                client.run("1")
            assert str(server.server_port) in str(refused.value)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("address", ["ftp://there:1", "two words", "http://"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(address)


def test_a_token_that_no_header_can_hold_is_refused_and_not_told() -> None:
    with pytest.raises(ValueError, match="token") as refused:
        Client(token="secret\n")
    assert "secret" not in str(refused.value)


def test_a_token_that_its_owner_renews_is_read_again(
    secure: str, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    monkeypatch.setenv("SANDPOOL_TOKEN", "less than the file")
    monkeypatch.setenv("SANDPOOL_TOKEN_FILE", str(file))
    with Client(
        f"localhost:{secure}", tls=TLS(ca=(certificate / "tls.crt").read_bytes())
    ) as client:
        assert client.run("print(1)").stdout == "1\n"
        file.write_text("fedcba9876543210")
        with pytest.raises(Unauthenticated):
            client.run("print(1)")
        file.unlink()
        with pytest.raises(BadToken, match=r"TOKEN_FILE: .*token' cannot be read: No such file"):
            client.run("print(1)")
        file.write_text("0123456789abcdef")
        assert client.run("print(1)").stdout == "1\n"


def test_the_environment_alone_lets_in(
    secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDPOOL_ADDRESS", f"https://localhost:{secure}")
    monkeypatch.setenv("SANDPOOL_CA", str(certificate / "tls.crt"))
    monkeypatch.setenv("SANDPOOL_TOKEN", "0123456789abcdef")
    with Client() as client:
        assert client.run("print(1)").stdout == "1\n"
    monkeypatch.setenv("SANDPOOL_CLIENT_KEY", str(certificate / "tls.key"))
    with pytest.raises(ValueError, match="a certificate and its key"):
        Client()
    monkeypatch.setenv("SANDPOOL_CA", "/nowhere")
    with pytest.raises(ValueError, match="SANDPOOL_CA: '/nowhere' cannot be read: No such file"):
        Client()


def test_a_token_comes_by_a_pipe_and_its_origin_is_named(
    secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.write(write, b"0123456789abcdef\n")
    os.close(write)
    tls = TLS(ca=(certificate / "tls.crt").read_bytes())
    with Client(f"localhost:{secure}", token_file=f"/dev/fd/{read}", tls=tls) as client:
        assert client.run("print(1)").stdout == "1\n"
    os.close(read)
    monkeypatch.setenv("SANDPOOL_TOKEN_FILE", "/nowhere")
    with pytest.raises(BadToken, match="SANDPOOL_TOKEN_FILE: '/nowhere' cannot be read"):
        Client()
    monkeypatch.setenv("SANDPOOL_TOKEN_FILE", "")
    monkeypatch.setenv("SANDPOOL_TOKEN", " ")
    with pytest.raises(BadToken, match="SANDPOOL_TOKEN: it is empty"):
        Client()


def test_a_token_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(BadToken, match="token: it is given beside token_file"):
        Client(token="secret", token_file=tmp_path / "token")
    with pytest.raises(ValueError, match=r"token_file: .* cannot be read"):
        Client(token_file=tmp_path / "token")


def test_a_closed_client_says_so(server: str) -> None:
    client = Client(server)
    client.close()
    with pytest.raises(SandpoolError, match="closed"):
        client.run("1")


def test_code_whose_client_is_closed_may_have_run(server: str) -> None:
    client = Client(server)
    execution = client.execute("while True: pass")
    client.close()
    with pytest.raises(CallCancelled, match="closed"):
        execution.result()


def test_a_server_that_dies_is_told_with_the_execution() -> None:
    with Server(SMALL_POOL) as server, Client(server.address) as client:
        with client.execute("import time; time.sleep(1000)") as execution:
            started = next(execution)
            assert isinstance(started, Started)
            server.process.kill()
            with pytest.raises(ConnectionLost) as lost:
                execution.result()
        assert lost.value.execution_id == started.execution_id


def test_a_request_that_is_too_large_is_told(client: Client) -> None:
    with pytest.raises(ServiceError, match="too large"):
        client.run("#" * 40_000_000)


def _in_a_child(client: Client, execution: Execution) -> None:
    refused = 0
    for use in (
        lambda: client.run("print(1)"),
        execution.result,
        lambda: execution.write(b"x" * 1_000_000),
    ):
        try:
            use()
        except ForkedProcess:
            refused += 1
    client.close()
    os._exit(refused)


def test_a_forked_process_is_told_at_once(client: Client) -> None:
    with client.execute("print(input())", stdin_open=True) as execution:
        assert isinstance(next(execution), Started)
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=_in_a_child, args=(client, execution))
        child.start()
        child.join()
        assert child.exitcode == 3
        execution.write("here\n")
        assert execution.result().stdout == "here\n"


def test_a_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="certificate and its key"):
        TLS(key=b"key")


def test_reading_after_a_cancel_says_so(client: Client) -> None:
    with client.execute_command(["sleep", "1000"]) as execution:
        assert isinstance(next(execution), Started)
        execution.cancel()
        with pytest.raises(CallCancelled):
            execution.result()


class _OldServer(server_pb2_grpc.ServerServiceServicer):
    """What no real server is: one that lacks the other services."""

    def GetServerInfo(
        self, request: server_pb2.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> server_pb2.ServerInfo:
        return server_pb2.ServerInfo(version="0.0.1")


def test_a_server_that_is_too_old_is_told_with_its_version() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    server_pb2_grpc.add_ServerServiceServicer_to_server(_OldServer(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}") as client:
        for call in (lambda: client.run("1"), client.sandbox):
            with pytest.raises(Unimplemented, match=r"version 0\.0\.1, this client"):
                call()
    server.stop(None)


def test_what_a_server_is_is_told(client: Client) -> None:
    assert client.server_info().version
    [pool] = [pool for pool in client.list_pools() if pool.spec.name == "default"]
    assert client.get_pool("default").spec == pool.spec
