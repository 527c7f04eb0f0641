"""The settings of Kafka's clients for TLS and SASL, by the login that `transport.logins` has for an address.

client_settings(bootstrap)  ──> arguments of kafka-python's clients
check_login(bootstrap)      ──> an error that says what is wrong: the certificate, or the user and password
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from typing import Any

from kafka.net.sasl.oauth import AbstractTokenProvider

from schemas.errors import BadConfiguration, RetryLater
from transport.logins import KafkaLogin, kafka_login

TOKEN_TIMEOUT_S = 10.0
"""Longest wait for a token, seconds."""
_EARLY_S = 60.0
"""So long before its end a token is asked for anew, seconds; at most half its time."""
_HANDSHAKE_S = 5.0
_CLOSE_S = 1.0


class OAuthTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens by the grant `client_credentials` (RFC 6749); one is used until shortly before it ends.

    Args:
        login: Its user and password are the id and secret of the client.
    """

    def __init__(self, login: KafkaLogin) -> None:
        super().__init__()
        self._login = login
        self._token, self._until_s = "", 0.0
        self._lock = threading.Lock()

    def token(self) -> str:
        """A token that is valid now.

        Raises:
            RetryLater: The token endpoint gives none.
        """
        with self._lock:
            if time.monotonic() >= self._until_s:
                self._token, expires_in_s = self._ask()
                self._until_s = time.monotonic() + max(expires_in_s - _EARLY_S, expires_in_s / 2)
            return self._token

    def _ask(self) -> tuple[str, float]:
        import httpx  # takes a quarter of a second, and few have such a login

        try:
            answer = httpx.post(
                self._login.token_url,
                data={"grant_type": "client_credentials"},
                auth=(self._login.user, self._login.password),
                timeout=TOKEN_TIMEOUT_S,
            )
            answer.raise_for_status()
            found = answer.json()
            return str(found["access_token"]), float(found.get("expires_in", 300.0))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RetryLater(
                f"the token endpoint SX9_KAFKA_TOKEN_URL={self._login.token_url} gave no token "
                f"({type(error).__name__}: {error!s:.200}): check it, SX9_KAFKA_USER and SX9_KAFKA_PASSWORD"
            ) from error


def client_settings(bootstrap: str) -> dict[str, Any]:
    """Arguments of kafka-python's clients for the Kafka at an address.

    Raises:
        BadConfiguration: See `KafkaLogin.ssl_context`.
    """
    login = kafka_login(bootstrap)
    settings: dict[str, Any] = {"security_protocol": login.protocol}
    if login.has_tls:
        settings["ssl_context"] = login.ssl_context()
    if login.has_sasl:
        settings["sasl_mechanism"] = login.mechanism
        if login.mechanism == "OAUTHBEARER":
            settings["sasl_oauth_token_provider"] = OAuthTokens(login)
        else:
            settings |= {"sasl_plain_username": login.user, "sasl_plain_password": login.password}
    return settings


def check_login(bootstrap: str, timeout_ms: int) -> None:
    """Check that the Kafka at an address is who it says it is, and lets us in.

    Args:
        bootstrap: host:port, or several with commas.
        timeout_ms: Longest wait.

    Raises:
        BadConfiguration: Its certificate is not trusted, or it refuses the user and password.
        RetryLater: No token is given, or it does not answer.
    """
    login = kafka_login(bootstrap)
    if login.has_tls:
        _check_certificate(bootstrap, login)
    if login.mechanism == "OAUTHBEARER" and login.has_sasl:
        OAuthTokens(login).token()
    if not login.has_sasl:
        return
    asyncio.run(_log_in(bootstrap, login, timeout_ms))


async def _log_in(bootstrap: str, login: KafkaLogin, timeout_ms: int) -> None:
    """Log in to the first broker that can be reached, with aiokafka: kafka-python does not say what is wrong."""
    import aiokafka.conn as aio  # type: ignore[import-untyped]
    from aiokafka import errors

    settings = client_settings(bootstrap)
    if "sasl_oauth_token_provider" in settings:
        settings["sasl_oauth_token_provider"] = async_tokens(login)
    refusals = (
        errors.AuthenticationFailedError, errors.SaslAuthenticationFailed, errors.UnsupportedSaslMechanismError,
    )  # fmt: skip
    error: Exception | None = None
    for broker in bootstrap.split(","):
        host, _, port = broker.strip().rpartition(":")
        try:
            connection = aio.AIOKafkaConnection(
                host.strip("[]"), int(port), request_timeout_ms=timeout_ms, **settings
            )
            try:
                await connection.connect()
            finally:
                await asyncio.wait({connection.close()}, timeout=_CLOSE_S)
            return
        except refusals as refused:
            raise BadConfiguration(
                f"the Kafka at {broker} refuses the user {login.user!r} with {login.mechanism} "
                f"({type(refused).__name__}): check SX9_KAFKA_USER, SX9_KAFKA_PASSWORD and SX9_KAFKA_SASL_MECHANISM"
            ) from refused
        except (errors.KafkaError, OSError, ValueError, TimeoutError) as failed:
            error = failed
    raise RetryLater(f"the Kafka at {bootstrap} did not let us in ({type(error).__name__}: {error}): try again")


def async_tokens(login: KafkaLogin) -> Any:
    """Tokens for aiokafka: they are asked for in a thread, so that its event loop goes on."""
    from aiokafka.abc import AbstractTokenProvider as AsyncProvider  # type: ignore[import-untyped]

    tokens = OAuthTokens(login)

    class AsyncTokens(AsyncProvider):  # type: ignore[misc]
        async def token(self) -> str:
            return await asyncio.to_thread(tokens.token)

    return AsyncTokens()


def _check_certificate(bootstrap: str, login: KafkaLogin) -> None:
    """Make the handshake of TLS with the first broker that can be reached."""
    context = login.ssl_context()
    assert context is not None
    for broker in bootstrap.split(","):
        host, _, port = broker.strip().rpartition(":")
        host = host.strip("[]")
        try:
            with (
                socket.create_connection((host, int(port)), _HANDSHAKE_S) as connection,
                context.wrap_socket(connection, server_hostname=host),
            ):
                return
        except ssl.SSLCertVerificationError as error:
            raise BadConfiguration(
                f"the certificate of the Kafka at {broker} is not trusted ({error.verify_message}): it must name "
                f"{host}, and SX9_KAFKA_CA_FILE the certificate that signed it"
            ) from error
        except ssl.SSLError as error:
            raise BadConfiguration(
                f"the Kafka at {broker} can't be reached with TLS ({error.reason or error}): check "
                "SX9_KAFKA_SECURITY_PROTOCOL and the port; some brokers also ask for SX9_KAFKA_CERT_FILE"
            ) from error
        except (OSError, ValueError):
            continue  # whether any broker can be reached is checked elsewhere
