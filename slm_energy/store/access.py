"""Between this program and an MLflow server: how long it waits, who asks, what a failure means.

User and password or token come from MLflow's own variables (or ~/.mlflow/credentials). MLflow reads
them; they never pass through here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from urllib3.exceptions import NewConnectionError, ResponseError
from urllib3.exceptions import TimeoutError as RequestTimeout

from slm_energy.errors import TrackingError, one_line

PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
"""A server that is down costs a request 4 to 5 s, one that is silent 50 s, and what cannot be sent
waits on disk. MLflow's own 7 retries of 120 s take 4 minutes, and 20."""

_LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_CA = "MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE"
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
"""OpenSSL's X509_V_ERR_* for a chain that ends in nobody who is trusted (x509_vfy.h)."""


def is_server(uri: str | None) -> bool:
    """Whether a tracking URI is of an MLflow server; else MLflow opens the store itself."""
    return uri is not None and uri.startswith(("http://", "https://"))


def check(uri: str, *, secret: bool, unverified: bool) -> None:
    """Refuse to hand a password or a token to whoever listens.

    Args:
        uri: the tracking URI.
        secret: MLflow has a password or a token for it.
        unverified: MLflow would take any certificate.

    Raises:
        TrackingError: the connection would be open to others.
    """
    if not is_server(uri):
        return
    if unverified:
        raise TrackingError(
            f"MLFLOW_TRACKING_INSECURE_TLS is set, so that anybody could pass for {uri}: unset it;"
            f" for a CA of your own set {_CA} to the file of its certificate"
        )
    if secret and uri.startswith("http://") and not _is_loopback(urlsplit(uri).hostname or ""):
        raise TrackingError(
            f"{uri} would get a password or token in clear text: use https://, a tunnel to"
            " 127.0.0.1, or unset MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN"
        )


def failure(uri: str, error: Exception) -> str:
    """What it means that a store cannot be used, and after the last colon what mends it."""
    if is_server(uri):
        causes = list(_causes(error))
        met = next(filter(None, map(_connection, causes)), None) or _answer(causes, str(error))
        if met is not None:
            return f"tracking.uri={uri}: {met}"
    if isinstance(error, ModuleNotFoundError):
        return (
            f"tracking.uri={uri} needs the package {error.name}: for PostgreSQL pip install"
            " 'slm-energy[server]', and write postgresql+psycopg2://"
        )
    return (
        f"tracking store {uri} cannot be used: {type(error).__name__}: {one_line(error)};"
        " check it or set tracking.folder=DIR or tracking.uri=URI"
    )


def _connection(cause: BaseException) -> str | None:
    """Why there is no connection, if this error says so."""
    reason = one_line(cause)
    match cause:
        case ssl.SSLCertVerificationError():
            known = f"certificate verification failed ({cause.verify_message})"
            if cause.verify_code not in _UNKNOWN_ISSUER:
                return f"{known}: fix the server's certificate or the URL"
            return (
                f"{known}: if it is signed by your own CA, set {_CA} to the CA's certificate file"
            )
        case ssl.SSLError():
            return f"TLS handshake failed ({cause.reason or reason}): check https:// and {_CA}"
        case OSError() if "CA certificate bundle" in reason:
            return f"{reason}: {_CA} must be a file of certificates"
        case socket.gaierror():
            return f"host name not found ({cause.strerror}): check tracking.uri"
        case NewConnectionError(__cause__=OSError() as refused):
            return f"connection failed ({refused.strerror}): start the server or check tracking.uri"
        case TimeoutError() | RequestTimeout():
            return "timed out: check the server, or raise MLFLOW_HTTP_REQUEST_TIMEOUT"
        case ConnectionResetError():
            return (
                "connection reset: check the server, and whether the URL must begin with https://"
            )
        case ResponseError():
            return f"{reason}: look at the server's log"
    return None


def _answer(causes: list[BaseException], text: str) -> str | None:
    """What the server's answer means, if it is none that MLflow knows."""
    told = re.search(r"API request to endpoint \S+ failed with error code (\d+)", text)
    responses = (getattr(cause, "response", None) for cause in causes)
    refused = next((r.status_code for r in responses if r is not None), None)
    status = int(told[1]) if told else refused
    if status == 401:
        return f"authentication required (HTTP 401): set {_LOGIN}"
    if "Invalid Host header" in text:
        return "host name not allowed by the server (HTTP 403): start it with --allowed-hosts HOST"
    if status == 403:
        return (
            "permission denied (HTTP 403): ask the server's administrator for"
            f" EDIT on the study's experiment, or set another {_LOGIN}"
        )
    if told or re.search(r"response body was not in a valid JSON|INTERNAL_ERROR: Response:", text):
        said = f" (HTTP {status})" if status else ""
        return f"not an MLflow server{said}: check tracking.uri"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, the innermost first: libraries wrap them in several ways."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and not any(each is other for other in seen):
            seen.append(each)
            waiting += [each.__context__, each.__cause__, getattr(each, "reason", None), *each.args]
    return reversed(seen)


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
