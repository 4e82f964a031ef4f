"""Access to an MLflow server: time limits, credentials, TLS, and one-line error messages.

User and password or token come from MLflow's own variables (or ~/.mlflow/credentials). MLflow reads
them; this module never handles them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import sqlite3
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from urllib3.exceptions import IncompleteRead, NewConnectionError, ResponseError
from urllib3.exceptions import TimeoutError as RequestTimeout

from slm_energy.errors import TrackingError, one_line
from slm_energy.places import file_error

PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
"""With these limits a request fails after 4 to 5 s if the server is down and after 50 s if it does
not respond; unsent records stay on disk. MLflow's default of 7 retries of 120 s takes 4 and 20
minutes."""

_LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_CA = "MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE"
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
"""OpenSSL's X509_V_ERR_* for a chain without a trusted root (x509_vfy.h)."""


def is_server(uri: str | None) -> bool:
    """Whether a tracking URI names an MLflow server; otherwise MLflow opens the store directly."""
    return uri is not None and uri.startswith(("http://", "https://"))


def check(uri: str, *, secret: bool, unverified: bool) -> None:
    """Refuse to send a password or token over an insecure connection.

    Args:
        uri: the tracking URI.
        secret: MLflow has a password or a token for it.
        unverified: MLflow would accept any certificate.

    Raises:
        TrackingError: the connection would expose the credentials.
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
    """Describe why a store cannot be used; the remedy follows the last colon."""
    if is_server(uri):
        causes = list(_causes(error))
        text = next(filter(None, map(_connection, causes)), None) or _answer(causes, str(error))
        if text is not None:
            return f"tracking.uri={uri}: {text}"
    if isinstance(error, OSError) and error.filename is not None:
        return str(file_error(error, [(_key(uri), database(uri).parent)]))
    for cause in _causes(error):
        if isinstance(cause, sqlite3.Error):
            return _of_database(uri, str(cause))
    if isinstance(error, ModuleNotFoundError):
        return (
            f"tracking.uri={uri} needs the package {error.name}: for PostgreSQL pip install"
            " 'slm-energy[server]', and write postgresql+psycopg2://"
        )
    kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    return (
        f"tracking store {uri} cannot be used: {kind}{one_line(error)};"
        " check it or set tracking.folder=DIR or tracking.uri=URI"
    )


def database(uri: str) -> Path:
    """The file of a SQLite store."""
    return Path(unquote(uri.partition(":///")[2].partition("?")[0]))


def _key(uri: str) -> str:
    """The key that names a SQLite store; in `tracking.folder` it is `mlflow.db`."""
    return "tracking.folder" if database(uri).name == "mlflow.db" else "tracking.uri"


def _of_database(uri: str, text: str) -> str:
    """Explain an error of SQLite's (its result codes, https://sqlite.org/rescode.html)."""
    remedy = "check it"
    if "full" in text:
        remedy = "free space"
    elif "readonly" in text or "unable to open" in text:
        remedy = "check that it is in place and that this user may write it and its folder"
    return f"cannot use {database(uri)}: {text}; {remedy}, or set {_key(uri)}=..."


def _connection(cause: BaseException) -> str | None:
    """Explain a connection error; None if the error is of another kind."""
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
        case IncompleteRead():
            return (
                "a response was cut off: check the network and the proxies on the way to the server"
            )
        case ResponseError():
            return f"{reason}: look at the server's log"
    return None


def _answer(causes: list[BaseException], text: str) -> str | None:
    """Explain a response that MLflow does not recognise; None if there is no explanation."""
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
    """An error and its causes, innermost first: libraries wrap errors in several ways."""
    known: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        cause = pending.pop()
        if isinstance(cause, BaseException) and not any(cause is other for other in known):
            known.append(cause)
            pending += [cause.__context__, cause.__cause__, getattr(cause, "reason", None)]
            pending += cause.args
    return reversed(known)


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
