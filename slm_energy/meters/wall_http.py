"""HTTP requests to a wall meter: its address, its login, and limits on what it may answer.

It is queried directly: no proxy, no redirection, no response above 64 KiB. Credentials come from
~/.netrc or the environment, as with curl; no note, error or record contains them.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
from requests.auth import HTTPDigestAuth
from requests.utils import get_netrc_auth
from urllib3.exceptions import HTTPError

from slm_energy.config.groups import WallMeterConfig
from slm_energy.meters.base import ReadFailed
from slm_energy.redaction import WALL_TOKEN

KEY = "measurement.wall_meter"

_MAX_BYTES = 65_536
_BEARER = "bearer"
"""Login in ~/.netrc whose password is a token."""

_LOG_IN = (
    f"write `machine HOST login USER password PASSWORD` into ~/.netrc; a token is the variable"
    f" {WALL_TOKEN}, or the password of the login `{_BEARER}`"
)


class Device:
    """The device at one address.

    Attributes:
        where: the part of its address that may be shown.

    Raises:
        ReadFailed: the configuration is not usable.
    """

    def __init__(self, config: WallMeterConfig) -> None:
        self._config = config
        self._session = requests.Session()
        self._session.trust_env = False  # neither a proxy nor a password from the environment
        self._session.headers["Accept-Encoding"] = "identity"
        self._url, self.where = _addresses(config.url)
        if config.ca_file is not None:
            self._session.verify = _verified(config.ca_file)
        self._log_in()

    def ask(self) -> tuple[bytes, str | None]:
        """The body of a response, and the device's own time if the response has it.

        Raises:
            ReadFailed: there is none in time, or it is not a result.
        """
        with self._get() as response:
            if response.status_code != requests.codes.ok:
                raise ReadFailed(self._refused(response.status_code))
            return self._body(response), response.headers.get("Date")

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _log_in(self) -> None:
        """Authenticate as the device requires: token, digest, basic, or in the query string."""
        token, login = os.environ.get(WALL_TOKEN, "").strip(), get_netrc_auth(self._url)
        if not token and login is not None and login[0] == _BEARER:
            token = login[1]
        if token:
            if not (token.isascii() and token.isprintable()):
                raise ReadFailed(f"the token in {WALL_TOKEN} or ~/.netrc is not plain text")
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif login is not None:
            for key, value in zip(("user", "password"), login, strict=True):
                self._url = re.sub(rf"(?<=[?&]{key}=)(?=&|$)", quote(value, safe=""), self._url)
            with self._get() as response:
                scheme = response.headers.get("WWW-Authenticate", "").lower()
            if scheme:
                digest = scheme.startswith("digest")
                self._session.auth = HTTPDigestAuth(*login) if digest else login

    def _get(self) -> requests.Response:
        timeout_s = self._config.timeout_s
        try:
            return self._session.get(
                self._url, timeout=timeout_s, allow_redirects=False, stream=True
            )
        except requests.Timeout as error:
            raise ReadFailed(self._late()) from error
        except requests.exceptions.SSLError as error:
            raise ReadFailed(
                f"{self.where}: its certificate cannot be verified ({_cause(error)}): give it, or"
                f" that of its authority, in {KEY}.ca_file"
            ) from error
        except requests.RequestException as error:
            # Its own text contains the whole URL.
            raise ReadFailed(
                f"{self.where} cannot be reached ({_cause(error)}): check {KEY}.url"
            ) from error

    def _body(self, response: requests.Response) -> bytes:
        until, body = time.monotonic() + self._config.timeout_s, b""
        try:
            while chunk := response.raw.read1(_MAX_BYTES):
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise ReadFailed(
                        f"{self.where} returns more than {_MAX_BYTES} bytes: check {KEY}.url"
                    )
                if time.monotonic() > until:
                    raise ReadFailed(self._late())
        except (OSError, HTTPError) as error:
            raise ReadFailed(self._late()) from error
        return body

    def _late(self) -> str:
        limit = f"{KEY}.timeout_s={self._config.timeout_s:g}"
        return f"{self.where} gave no complete response within {limit}"

    def _refused(self, status: int) -> str:
        remedy = f"check {KEY}.url"
        if status in (401, 403):
            remedy = _LOG_IN
        elif 300 <= status < 400:
            remedy = f"give the final address in {KEY}.url"
        return f"{self.where} returns HTTP {status}: {remedy}"


def _addresses(text: str) -> tuple[str, str]:
    """The URL to request, and the part of it that may be shown."""
    try:
        url = urlsplit(text)
        valid = url.scheme in ("http", "https") and bool(url.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise ReadFailed(f"{KEY}.url is not an address: it begins with http:// or https://")
    return url.geturl(), f"{url.scheme}://{url.netloc}{url.path}"


def _verified(file: str) -> str:
    """The absolute path of a file of certificates, which is read once to see that it holds one."""
    path = Path(file).expanduser().absolute()
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        why = "not in PEM format" if isinstance(error, ssl.SSLError) else error.strerror
        raise ReadFailed(f"{KEY}.ca_file={file} holds no certificate: {why}") from error
    return str(path)


def _cause(error: BaseException) -> str:
    """The operating system's message, or that of TLS."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
