"""The sandbox templates run in: what they may reach, how long they may run, how data is escaped for each medium.

Knows nothing of folders and versions: it is given texts by name. Templates are written by the operator, data by
callers; data is trusted with nothing, a template only with what the sandbox allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from babel import Locale
from jinja2 import (
    BaseLoader,
    Environment,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    UndefinedError,
    meta,
    nodes,
)
from jinja2 import Template as Compiled
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from gateway.errors import GatewayError
from gateway.render.formats import MOST_CHARS, Refused, Turn, filters_for
from gateway.render.ledger import Ledger
from gateway.render.markup import prepare
from gateway.render.source import Medium
from gateway.render.styles import Sheet

if TYPE_CHECKING:
    from gateway.render.liquid import Liquid

_UNWANTED_FILTERS: Final = (
    "safe",  # would let data write HTML
    "urlize",  # would make links out of data
    "xmlattr",  # writes attributes past the link check
    "format",  # "%999999999d" is a gigabyte
    "center",  # the same by another name
    "indent",
    "batch",  # fills up to any number
    "slice",  # counts up to any number
    "tojson",  # indents by any number
    "random",  # the same delivery must render the same way twice
    "pprint",
    "attr",  # names an attribute by data
)
_UNWANTED_METHODS: Final = frozenset(
    {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill", "translate", "encode"}
)
_MOST_CODES: Final = 2_000
"""Compiled texts kept for sharing; templates in use hold their own, so forgetting these costs only time."""
_MOST_SHEETS: Final = 100
_MOST_REPEATED: Final = 10_000
"""How long a repeated string or list may get: enough for a line of dashes."""

_MARKDOWN = re.compile(r"[!\"#&'()*+\-.<=>\[\\\]_`|~]")
"""Punctuation that can mean something to Markdown somewhere; the rest is left alone, for those who read the source."""
_LINE_BREAKS = re.compile(r"[^\S\n]*[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]\s*")
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f]")
"""What `clean` drops later, and what is no white space: gone before, or it would hide white space at an edge."""
_CONTROLS: Final = bytes([*range(9), 11, 12, *range(14, 32), 127])


class RenderFailed(GatewayError):
    """A template that could not be rendered. `detail` says which part, locale and line and why, and holds no data."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class _Texts(BaseLoader):
    """Serves the texts of one template; they never change, so nothing is ever reloaded."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def get_source(
        self,
        environment: Environment,  # noqa: ARG002 # Jinja's signature
        template: str,
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        """Answer a text by its name; the second place names the file in tracebacks."""
        if template not in self._texts:
            raise TemplateNotFound(template)
        return self._texts[template], template, None

    def mentions(self, name: str) -> bool:
        """Say whether `name` is the templates' own word, and so not data."""
        return name.isidentifier() and any(name in text for text in self._texts.values())


class _Compiled(BytecodeCache):
    """Compiled code by the text it came from: a layout that many templates share is compiled once."""

    def __init__(self) -> None:
        self._codes: dict[str, Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get(bucket.key + bucket.checksum)

    def dump_bytecode(self, bucket: Bucket) -> None:
        if len(self._codes) >= _MOST_CODES:
            self._codes.clear()
        self._codes[bucket.key + bucket.checksum] = bucket.code


class _BoundConcats(NodeTransformer):
    """Pipes the result of every `~` through the bound on texts: the sandbox does not intercept that operator."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 # Jinja's way to name a visitor
        self.generic_visit(node)
        return nodes.Filter(node, "_bounded", [], [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with its loops counted and its arithmetic kept small."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    turn: Turn
    """Whose steps calls and loops are charged to."""

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ARG002 # Jinja's signature
        """Offer no `str.format` at all, not even a safe one: its widths are gigabytes."""
        return None

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: PYI063 # Jinja's signature
        """Charge for calls: macros that call themselves twice are loops too. No text grows from call to call."""
        self.turn.charge(1)
        for value in (*args, *kwargs.values()):
            self.turn.bounded(value)
        return self.turn.bounded(super().call(__context, __obj, *args, **kwargs))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Read `obj.attribute`. Data comes first: `order.items` is the caller's list, never the method."""
        if type(obj) is dict:
            try:
                return obj[attribute]  # pyright: ignore[reportUnknownVariableType] # JSON from the caller
            except KeyError:
                pass
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse the methods that make gigabytes of a few characters, besides what the sandbox refuses."""
        if type(obj) is LoopContext:  # changes nothing; asked for at every turn of every loop
            return not attr.startswith("_")
        if isinstance(obj, str | bytes) and attr in _UNWANTED_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Keep arithmetic small: these operators are the other way to a gigabyte."""
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise Refused(f"the operator {operator!r} is not available here")
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    size: int = len(one)  # pyright: ignore[reportUnknownArgumentType] # only its length matters
                    if size * other > _MOST_REPEATED:
                        raise Refused("it repeats something too often")
        if operator == "+":
            return self.turn.bounded(left + right)
        return super().call_binop(context, operator, left, right)

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """Lay a template's own names over those of all: in one dict, which each rendering copies ten times as fast."""
        return {**self.globals, **(d or {})}

    def _generate(
        self,
        source: nodes.Template,
        name: str | None,
        filename: str | None,
        defer_init: bool = False,  # noqa: FBT001, FBT002 # Jinja's signature
    ) -> str:
        for loop in source.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_counted", [], [], None, None, lineno=loop.iter.lineno)
        return super()._generate(_BoundConcats().visit(source), name, filename, defer_init)


def _blank(value: Any) -> Any:
    return "" if value is None else value


def escape_markdown(value: Any) -> str:
    """Write data so that Markdown shows it as it is.

    An ASCII punctuation mark is taken literally behind a backslash (CommonMark 2.4). A line break becomes a hard one
    and can start no block; white space at the edges goes, or it would indent and keep emphasis from closing.
    """
    text = "" if value is None else str(value).strip()
    if text.isalnum():
        return text
    if text.isprintable():
        return _MARKDOWN.sub(r"\\\g<0>", text)
    text = _MARKDOWN.sub(r"\\\g<0>", _UNSEEN.sub("", text).strip())
    return _LINE_BREAKS.sub("  \n", text).replace("\t", " ")


_FINALIZERS: Final[Mapping[Medium, Callable[[Any], Any]]] = {"txt": _blank, "html": _blank, "md": escape_markdown}
"""What becomes of a value that is put out; in JSON parts the ledger holds it."""


class Inspection(msgspec.Struct, frozen=True):
    """What a text uses without defining it: names with the first line of each, and other files."""

    names: dict[str, int]
    references: tuple[str, ...]


def _bound_at_top(tree: nodes.Template) -> set[str]:
    """List what a file imports or sets outside its blocks: the blocks see it, though Jinja's own search does not."""
    bound: set[str] = set()
    for node in tree.body:
        match node:
            case nodes.Import():
                bound.add(node.target)
            case nodes.FromImport():
                bound.update(name if isinstance(name, str) else name[1] for name in node.names)
            case nodes.Macro():
                bound.add(node.name)
            case nodes.Assign(target=nodes.Name() as target) | nodes.AssignBlock(target=nodes.Name() as target):
                bound.add(target.name)
            case _:
                pass
    return bound


def _inspect(environment: Environment, text: str) -> Inspection:
    tree = environment.parse(text)
    lines: dict[str, int] = {}
    for node in tree.find_all(nodes.Name):
        lines.setdefault(node.name, node.lineno)
    undeclared = meta.find_undeclared_variables(tree) - set(environment.globals) - _bound_at_top(tree)
    references = tuple(name for name in meta.find_referenced_templates(tree) if name is not None)
    return Inspection({name: lines.get(name, 1) for name in sorted(undeclared)}, references)


class Workshop:
    """The environments of all media, and the one turn they share. Used from one thread."""

    def __init__(self, environment_globals: Mapping[str, Any]) -> None:
        self.turn = Turn()
        self.ledger = Ledger()
        self._liquid: Liquid | None = None
        self._inspections: dict[str, Inspection] = {}
        self._sheets: dict[str, Sheet] = {}
        self._prepared: dict[tuple[str, str | None], str] = {}
        self._globals = dict(environment_globals)
        media: tuple[Medium, ...] = ("txt", "html", "md", "json")
        self._environments = {medium: self._build(medium) for medium in media}

    @property
    def liquid(self) -> Liquid:
        """The sandbox of templates edited through the API: made when there is one."""
        if self._liquid is None:
            from gateway.render.liquid import Liquid  # noqa: PLC0415 - most start without an edited template

            self._liquid = Liquid(self.turn, self.ledger, self._globals)
        return self._liquid

    def _build(self, medium: Medium) -> Sandbox:
        environment = Sandbox(
            autoescape=medium == "html",
            undefined=StrictUndefined,
            finalize=_FINALIZERS.get(medium, self.ledger.finalize),
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=_Compiled(),
        )
        for name in _UNWANTED_FILTERS:
            del environment.filters[name]
        environment.filters.update(filters_for(self.turn))
        environment.turn = self.turn
        spare: MutableMapping[str, Any] = environment.globals
        spare.pop("lipsum", None)
        spare.update(self._globals)
        return environment

    def environment(self, medium: Medium, texts: Mapping[str, str]) -> Sandbox:
        """Make an environment that finds exactly `texts` by their names."""
        overlay = self._environments[medium].overlay(loader=_Texts(texts))
        assert isinstance(overlay, Sandbox)  # noqa: S101 # narrows: an overlay has its parent's class
        return overlay

    def inspect(self, text: str) -> Inspection:
        """Find the names and files a text uses. Raises `TemplateSyntaxError`. Remembered: layouts come up often."""
        known = self._inspections.get(text)
        if known is None:
            if len(self._inspections) >= _MOST_CODES:
                self._inspections.clear()
            known = self._inspections[text] = _inspect(self._environments["txt"], text)
        return known

    def sheet(self, plain: str) -> Sheet:
        """Share one sheet, with what it has been asked already, between all templates that use it."""
        if len(self._sheets) >= _MOST_SHEETS:
            self._sheets.clear()
        return self._sheets.setdefault(plain, Sheet(plain))

    def prepared(self, text: str, sheet: Sheet | None) -> str:
        """Prepare an HTML source, once for each sheet."""
        asked = (text, None if sheet is None else sheet.plain)
        known = self._prepared.get(asked)
        if known is None:
            if len(self._prepared) >= _MOST_CODES:
                self._prepared.clear()
            known = self._prepared[asked] = prepare(text, sheet)
        return known

    def run(self, compiled: Compiled, values: dict[str, Any], locale: Locale, zone: Any, whose: str) -> str:
        """Render one part. Raises `RenderFailed`, naming `whose` template it is, the file and the line."""
        self.turn.begin(locale, zone)
        self.ledger.begin()
        pieces: list[str] = []
        size = 0
        try:
            for piece in compiled.root_render_func(compiled.new_context(values)):
                size += len(piece)
                if size > MOST_CHARS:
                    raise Refused(f"it gets longer than {MOST_CHARS} characters")  # noqa: TRY301 # one place names the line
                pieces.append(piece)
        except Exception as error:  # noqa: BLE001 # whatever a template does is a failed render, never a crash
            raise RenderFailed(f"{whose}: {_place(error, compiled)}: {_reason(error, compiled)}") from None
        return clean("".join(pieces))


def clean(text: str) -> str:
    """Drop control characters and lone surrogates, which no medium can carry."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
        data = text.encode()
    kept = data.translate(None, _CONTROLS)
    return text if len(kept) == len(data) else kept.decode()


def _place(error: BaseException, compiled: Compiled) -> str:
    """Find the innermost template frame: compiled templates carry themselves in their globals."""
    name, line = compiled.name or "?", 0
    trace = error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, Compiled):
            name, line = template.name or name, template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return f"{name} line {line}" if line else name


_QUOTED = re.compile(r"'([^']*)'")


def _reason(error: Exception, compiled: Compiled) -> str:
    """Say why without repeating data: what a message quotes is passed on only if it is a plain name."""
    match error:
        case Refused():
            return str(error)
        case SecurityError():
            return "the sandbox refuses an unsafe operation"
        case UndefinedError():
            quoted = _QUOTED.findall(str(error))
            loader = compiled.environment.loader
            known = bool(quoted) and isinstance(loader, _Texts) and loader.mentions(quoted[-1])
            return f"{quoted[-1]!r} is not there" if known else "it uses something that is not there"
        case TemplateError():
            return f"the template is broken ({type(error).__name__})"
        case RecursionError() | MemoryError():
            return "it needs too much"
        case _:
            return f"a {type(error).__name__} was raised"
