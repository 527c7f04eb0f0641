"""The credentials of Faust, whose client is aiokafka, by the login that `transport.logins` has for an address."""

from __future__ import annotations

from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials

from transport.kafka_login import async_tokens
from transport.logins import kafka_login


def broker_credentials(bootstrap: str) -> Credentials | None:
    """The credentials for the Kafka at an address; None: it asks for none.

    Raises:
        BadConfiguration: A file of certificates can't be used.
    """
    login = kafka_login(bootstrap)
    context = login.ssl_context()
    if not login.has_sasl:
        return SSLCredentials(context) if context else None
    if login.mechanism == "OAUTHBEARER":
        return OAuthCredentials(oauth_cb=async_tokens(login), ssl_context=context)
    return SASLCredentials(
        username=login.user, password=login.password, ssl_context=context, mechanism=login.mechanism
    )
