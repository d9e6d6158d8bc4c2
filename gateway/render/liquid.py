"""The sandbox of templates edited through the API: Liquid, with its loops, output and texts bounded.

Who may edit templates over HTTP need not be who runs the machine, so nothing here reaches a file, another template or
a Python object: a chosen few tags and filters, and data. What a value becomes when it is put out is the medium's
affair, as in `gateway.render.sandbox`. Knows nothing of versions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TextIO

import msgspec
from babel import Locale
from liquid import Environment, RenderContext
from liquid.builtin.output import Output, OutputNode
from liquid.exceptions import LiquidError, ResourceLimitError, UndefinedError
from liquid.stringify import to_liquid_string
from liquid.template import BoundTemplate
from liquid.token import TOKEN_CONTENT, TOKEN_ILLEGAL
from liquid.undefined import FalsyStrictUndefined, Undefined

from gateway.render.formats import MOST_CHARS, MOST_STEPS, Refused, Turn, filters_for
from gateway.render.ledger import Ledger
from gateway.render.markup import prepare
from gateway.render.sandbox import RenderFailed, clean, escape_markdown
from gateway.render.source import Medium

_TAGS: Final = frozenset(
    {
        TOKEN_CONTENT, TOKEN_ILLEGAL,
        "#", "assign", "break", "capture", "case", "comment", "continue", "doc", "for", "if", "raw", "unless",
    }
)  # fmt: skip
"""What remains of Liquid's tags: those that put nothing out by a way of their own and reach nothing else."""
_FILTERS: Final = frozenset(
    {
        "abs", "append", "at_least", "at_most", "capitalize", "ceil", "concat", "default", "divided_by", "downcase",
        "first", "floor", "last", "lstrip", "map", "minus", "modulo", "plus", "prepend", "remove", "reverse", "round",
        "rstrip", "size", "slice", "sort", "split", "strip", "strip_newlines", "times", "truncate", "truncatewords",
        "upcase", "url_encode", "where",
    }
)  # fmt: skip
"""What remains of Liquid's filters: each takes time and makes text in proportion to what it is given."""
_OURS: Final = ("date", "time", "datetime", "number", "money", "currency", "join", "replace", "link", "image")
_LARGEST: Final = 10**30
"""The largest number a template may come to: no sum has thirty digits, and squares of squares are a bomb."""


class LiquidFault(msgspec.Struct, frozen=True):
    """What is wrong with a text, and where; `undeclared` for a variable that nobody declared."""

    message: str
    line: int | None = None
    undeclared: bool = False


class _PutOut(OutputNode):
    """`{{ … }}`, written as the medium wants it."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        value: Any = self.expression.evaluate(context)
        environment = context.env
        assert isinstance(environment, LiquidEnvironment)  # noqa: S101 # narrows: only ours parses this node
        return buffer.write(environment.put(value))


class _OutputTag(Output):
    node_class = _PutOut


class LiquidEnvironment(Environment):
    """Liquid for one medium."""

    loop_iteration_limit: ClassVar[int | None] = MOST_STEPS
    output_stream_limit: ClassVar[int | None] = MOST_CHARS
    local_namespace_limit: ClassVar[int | None] = 4 * MOST_CHARS
    suppress_blank_control_flow_blocks = False

    def __init__(self, medium: Medium, turn: Turn, ledger: Ledger) -> None:
        super().__init__(undefined=FalsyStrictUndefined, autoescape=medium == "html")
        self._medium: Medium = medium
        self._ledger = ledger
        self.tags = {name: tag for name, tag in self.tags.items() if name in _TAGS}
        self.add_tag(_OutputTag)
        kept = {name: _bounded(turn, act) for name, act in self.filters.items() if name in _FILTERS}
        ours = filters_for(turn)
        self.filters = {**kept, **{name: _bounded(turn, ours[name]) for name in _OURS}}

    def put(self, value: Any) -> str:
        """Write a value that the template puts out."""
        if isinstance(value, Undefined):
            str(value)  # raises, with the name
        match self._medium:
            case "json":
                return self._ledger.hold(value)
            case "md":
                return escape_markdown(to_liquid_string(value, autoescape=False))
            case "html" | "txt":
                return to_liquid_string(value, self.autoescape)


def _bounded(turn: Turn, act: Callable[..., Any]) -> Callable[..., Any]:
    """Measure what goes into a filter and what comes out. Liquid reads marks that `wraps` passes on."""

    @functools.wraps(act)
    def measured(*values: Any, **named: Any) -> Any:
        turn.charge(1)
        for value in values:
            _measure(turn, value)
        return _measure(turn, act(*values, **named))

    return measured


def _measure(turn: Turn, value: Any) -> Any:
    if isinstance(value, range) and len(value) > MOST_STEPS:
        raise Refused("a range is too long")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise Refused("a number gets too large")
    return turn.bounded(value)


class LiquidPart(msgspec.Struct, frozen=True):
    """One parsed text, ready to render."""

    template: BoundTemplate
    turn: Turn
    ledger: Ledger
    path: str

    def run(self, values: Mapping[str, Any], locale: Locale, zone: Any, whose: str) -> str:
        """Render. Raises `RenderFailed`, naming `whose` template it is, the part and the line."""
        self.turn.begin(locale, zone)
        self.ledger.begin()
        try:
            return clean(self.template.render(values))
        except Exception as error:  # noqa: BLE001 # whatever a template does is a failed render, never a crash
            line = _line(error)
            place = f"{self.path} line {line}" if line else self.path
            raise RenderFailed(f"{whose}: {place}: {_reason(error)}") from None


def _line(error: Exception) -> int | None:
    if not isinstance(error, LiquidError):
        return None
    try:
        context = error.context()
    except ValueError:  # the end of the text
        return None
    return context[0] if context else None


def _reason(error: Exception) -> str:
    """Say why without repeating data: Liquid's messages may hold values, so only their kind is told."""
    match error:
        case Refused():
            return str(error)
        case UndefinedError():
            return "it uses something that is not there"
        case ResourceLimitError():
            return f"its loops are more than {MOST_STEPS}, or it gets longer than {MOST_CHARS} bytes"
        case LiquidError():
            return f"a filter or a comparison does not take this value ({type(error).__name__})"
        case RecursionError() | MemoryError():
            return "it needs too much"
        case _:
            return f"a {type(error).__name__} was raised"


class Liquid:
    """The environments of all media; their turn and ledger are the workshop's. Used from one thread."""

    def __init__(self, turn: Turn, ledger: Ledger, shared: Mapping[str, Any]) -> None:
        self._turn = turn
        self._ledger = ledger
        self._shared = dict(shared)
        media: tuple[Medium, ...] = ("txt", "html", "md", "json")
        self._environments = {medium: LiquidEnvironment(medium, turn, ledger) for medium in media}

    def part(self, path: str, medium: Medium, text: str) -> LiquidPart:
        """Parse a text that has no faults. HTML gets its links checked, as in folders."""
        ready = prepare(text, None, piped="{} | {}") if medium == "html" else text
        template = self._environments[medium].from_string(ready, name=path, globals=self._shared)
        return LiquidPart(template, self._turn, self._ledger, path)

    def faults(self, text: str, medium: Medium, declared: frozenset[str]) -> list[LiquidFault]:
        """List what is wrong with a text: syntax, unknown filters, variables that are not declared."""
        environment = self._environments[medium]
        try:
            analysis = environment.from_string(text).analyze(include_partials=False)
        except LiquidError as error:
            return [LiquidFault(_syntax(error), _line(error))]
        except RecursionError:
            return [LiquidFault("it is nested too deep")]
        found = [
            LiquidFault(f"there is no filter {name!r}", _line_at(text, spans[0].index))
            for name, spans in analysis.filters.items()
            if name not in environment.filters
        ]
        known = declared | self._shared.keys()
        found += [
            LiquidFault(
                f"the variable {name!r} is used and not declared",
                _line_at(text, places[0].span.index),
                undeclared=True,
            )
            for name, places in analysis.globals.items()
            if name not in known
        ]
        return sorted(found, key=lambda fault: fault.line or 0)


def _line_at(text: str, index: int) -> int:
    return text.count("\n", 0, max(index, 0)) + 1


def _syntax(error: LiquidError) -> str:
    return str(error.message or "this cannot be read")
