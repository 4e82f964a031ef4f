"""The names and objects of an answer, which live in another process, as its judge sees them."""

from __future__ import annotations

import builtins
import contextlib
import json
import marshal
from collections.abc import Iterator, Sequence
from typing import Any

from . import wire


class Refused(Exception):
    """The task cannot be scored here, whatever the answer is."""


class OfAnswer(Exception):
    """What the answer raised, where that is no built-in exception that a test could expect."""


class BaseOfAnswer(BaseException):
    """The same where `except Exception` would not catch it, such as SystemExit."""


class Program:
    """The names of an answer in its own process.

    Attributes:
        raised: what the answer raised last.
        broken: the first failure of the exchange itself. A test that catches every exception does
            not see it; the judge does.
    """

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self.raised: BaseException | None = None
        self.broken: BaseException | None = None

    def request(self, **message: Any) -> dict[str, Any]:
        """Send a request and return the reply.

        Raises:
            BaseException: what the answer raised; kept in `raised`.
            wire.Closed: the process is gone.
            wire.NotPlain: the request is too long.
        """
        with self._noted():
            wire.send(self._channel, marshal.dumps(message))
            reply = _reply(wire.receive(self._channel))
        if "error" in reply:
            self.raised = _exception(reply["error"])
            raise self.raised
        return reply

    def value(self, form: Any) -> Any:
        """The value of a form in a reply.

        Raises:
            wire.Closed: it is none.
        """
        with self._noted():
            return wire.decode(form, lambda handle: Remote(self, handle))

    def names(self, wanted: Sequence[str]) -> dict[str, Remote]:
        """Those of the names that the answer defines."""
        known = self.value(self.request(names=list(wanted)).get("value"))
        if not isinstance(known, list):
            raise wire.Closed("an answer that does not fit the question")
        return {name: Remote(self, ["name", name]) for name in wanted if name in known}

    def form(self, value: Any) -> Any:
        """The form of an argument: plain, or one of the answer's own objects.

        Raises:
            Refused: it is neither.
            wire.NotPlain: it is nested too deeply.
        """

        def handle(item: Any) -> list[Any]:
            if type(item) is Remote and object.__getattribute__(item, "_program") is self:
                return list(object.__getattribute__(item, "_form"))
            raise Refused(f"the test passes a {type(item).__name__}, which is no plain value")

        with self._noted():
            return wire.encode(value, handle)

    def refuse(self, why: str) -> None:
        """Give up on the task.

        Raises:
            Refused: always.
        """
        with self._noted():
            raise Refused(why)

    def call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call, and carry over what the call did to its lists, sets and dictionaries."""
        reply = self.request(call=target, args=self.form(args), kwargs=self.form(kwargs))
        after = self.value(reply.get("args"))
        if isinstance(after, tuple) and len(after) == len(args):
            for one, other in zip(args, after, strict=True):
                _update(one, other)
        return self.value(reply.get("value"))

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.broken = self.broken or error
            raise


def _reply(data: bytes) -> dict[str, Any]:
    """What a process of an answer sent.

    Raises:
        wire.Closed: it is no JSON object.
    """
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise wire.Closed(f"a message that is not JSON: {error}") from error
    if not isinstance(reply, dict):
        raise wire.Closed("a message that is not an object")
    return reply


def _exception(described: Any) -> BaseException:
    """The exception that the answer raised, as a test may catch it: by its built-in class.

    An answer's StopIteration stays one of its own: here it would end a loop of the test early.
    """
    parts = described if isinstance(described, list) else []
    name, built_in, text = ([str(part) for part in parts] + ["", "", ""])[:3]
    words = f"{name}: {text}" if text else name or "an exception without a name"
    kind = getattr(builtins, built_in, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return BaseOfAnswer(words)
    if issubclass(kind, StopIteration | StopAsyncIteration) or kind is Exception:
        return OfAnswer(words)
    try:
        error = kind(text)
    except TypeError:  # UnicodeError and ExceptionGroup are not made of a text
        return OfAnswer(words)
    error.add_note(words)
    return error


class Remote:
    """A function or object of the answer. It is equal to no plain value, whatever it says."""

    __slots__ = ("_form", "_program")

    def __init__(self, program: Program, form: list[Any]) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_form", form)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        return self._program.call(self._form, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array"):  # where numpy would read memory that the answer names
            raise AttributeError(name)
        return self._program.value(self._program.request(target=self._form, get=name).get("value"))

    def __setattr__(self, name: str, value: Any) -> None:
        form = self._program.form(value)
        self._program.request(target=self._form, set=name, value=form)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Remote:
            return False
        if self is not other and self._form != other._form:
            self._program.refuse("the test compares objects of the answer, which may say anything")
        return True

    def __hash__(self) -> int:
        return hash(str(self._form))

    def __next__(self) -> Any:
        reply = self._program.request(target=self._form, next=True)
        if not reply:
            raise StopIteration
        return self._program.value(reply.get("value"))

    def __iter__(self) -> Iterator[Any]:
        reply = self._program.request(target=self._form, iterate=True)
        return iter(self._program.value(reply.get("value")))

    def __len__(self) -> int:
        return int(self._program.request(target=self._form, length=True)["value"])

    def __bool__(self) -> bool:
        return True


def _update(before: Any, after: Any) -> None:
    if isinstance(before, list) and isinstance(after, list):
        before[:] = after
    elif isinstance(before, set | dict) and type(before) is type(after):
        before.clear()
        before.update(after)
