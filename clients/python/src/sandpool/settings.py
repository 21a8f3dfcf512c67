"""Which server, and how to be let in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from ._token import Token

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
_MAX_TIMEOUT: Final = 86_400.0
MAX_MESSAGE: Final = 32 << 20
"""Bytes of a message that is taken from the server."""


@dataclass(frozen=True, slots=True)
class TLS:
    """Certificates, as the bytes of PEM files."""

    ca: bytes | None = None
    """Those to trust; None: those that gRPC comes with."""
    certificate: bytes | None = None
    """The one to show, where the server wants one; with its key."""
    key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    """The name that the server's certificate has, where it is not the address."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls: a certificate and its key are given together, or neither is")

    @classmethod
    def of_environment(cls) -> TLS:
        """Of the files that SANDPOOL_CA, SANDPOOL_CLIENT_CERTIFICATE and ..._KEY name."""
        return cls(
            _file("SANDPOOL_CA"),
            _file("SANDPOOL_CLIENT_CERTIFICATE"),
            _file("SANDPOOL_CLIENT_KEY"),
        )


def _file(variable: str) -> bytes | None:
    path = os.environ.get(variable)
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{variable}: {path!r} cannot be read: {reason}") from None


@dataclass(frozen=True, slots=True)
class Settings:
    """What `Client` takes, made ready for gRPC."""

    address: str
    token: Token = field(repr=False)
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, Any], ...]
    call_timeout: float

    @classmethod
    def of(
        cls,
        address: str | None,
        *,
        token: str | None,
        token_file: str | os.PathLike[str] | None,
        tls: bool | TLS,
        connect_timeout: float,
        call_timeout: float,
    ) -> Settings:
        """Takes what is None from the environment."""
        address = address or os.environ.get("SANDPOOL_ADDRESS") or DEFAULT_ADDRESS
        scheme, separator, rest = address.partition("://")
        if separator:
            if scheme not in ("http", "https"):
                raise ValueError(
                    f"address: {address!r} has a scheme that is neither http nor https"
                )
            tls = tls or scheme == "https"
            address = rest.rstrip("/")
        if not address or any(character.isspace() for character in address):
            raise ValueError(f"address: {address!r} is not host:port, such as {DEFAULT_ADDRESS}")
        for name, value in (("connect_timeout", connect_timeout), ("call_timeout", call_timeout)):
            if not 0 < value <= _MAX_TIMEOUT:
                raise ValueError(f"{name}: {value!r} is not a number of seconds, at most a day")
        credentials: grpc.ChannelCredentials | None = None
        if tls:
            own = tls if isinstance(tls, TLS) else TLS.of_environment()
            credentials = grpc.ssl_channel_credentials(own.ca, own.key, own.certificate)
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            # How long one attempt to connect may take, whatever its name says (grpc's
            # subchannel.cc), and how soon the next one may follow.
            ("grpc.min_reconnect_backoff_ms", round(connect_timeout * 1000)),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # A server that is silent this long is asked whether it is there: calls have no
            # deadline of their own, programs have.
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        if isinstance(tls, TLS) and tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        return cls(
            address=address,
            token=Token(token, token_file),
            credentials=credentials,
            options=tuple(options),
            call_timeout=call_timeout,
        )
