"""`/v1/templates`: list, show, preview. What a template is and how it renders is `gateway.render`'s affair."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway.api import cursors
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, listed
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation
from gateway.errors import Code, Fault, invalid, not_found
from gateway.model.addresses import locale_fault
from gateway.model.requests import Request
from gateway.model.states import Scope
from gateway.render.renderer import Person, RenderFailed, channels_of
from gateway.render.source import CONTENT_KEY, Variable
from gateway.render.template import Template
from gateway.router.answers import Answer, Listing

_TAG: Final = "Templates"
_READERS: Final = (Scope.READ, Scope.MANAGE, Scope.SEND)


class VariableAnswer(Answer, frozen=True, kw_only=True):
    """What the template asks its caller for."""

    name: str
    required: bool
    default: Any
    description: str
    example: Any


class TemplateSummary(Answer, frozen=True, kw_only=True):
    """A template and its current version."""

    key: str
    version: str
    description: str
    category: str | None
    channels: list[str]
    locales: list[str]


class TemplateVersion(Answer, frozen=True, kw_only=True):
    """One version; `current` is what new notifications get."""

    version: str
    source: str
    current: bool


class TemplateDetail(TemplateSummary, frozen=True, kw_only=True):
    """A template with its variables and versions."""

    variables: list[VariableAnswer]
    versions: list[TemplateVersion]


class PreviewRequest(Request, frozen=True, kw_only=True):
    """Variables and reader of a preview."""

    version: int | str | None = None
    data: dict[str, Any] = {}  # noqa: RUF012 # msgspec copies it for every instance
    locale: Annotated[str, Meta(min_length=1, max_length=35)] | None = None


class Preview(Answer, frozen=True, kw_only=True):
    """What one channel shows."""

    subject: str | None
    text: str | None
    html: str | None
    data: dict[str, Any]


class PreviewAnswer(Answer, frozen=True, kw_only=True):
    """Every channel rendered."""

    key: str
    version: str
    locale: str
    channels: dict[str, Preview]


async def list_templates(context: ApiContext, call: Call[ListQuery, None]) -> Reply:
    """List the current templates by key."""
    name = "templates"
    found = context.renderer.templates()
    if isinstance(call.query.cursor, str):
        behind = cursors.read(name, call.query.cursor).decode()
        found = [template for template in found if template.key > behind]
    return json_reply(listed(name, call.query, found, _summary, lambda template: template.key.encode()))


async def show_template(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show one."""
    template = _current(context, call)
    return json_reply(
        TemplateDetail(
            **msgspec.structs.asdict(_summary(template)),
            variables=[_variable(one) for one in template.variables],
            versions=[TemplateVersion(version=template.version, source="folder", current=True)],
        ),
    )


async def preview(context: ApiContext, call: Call[NoQuery, PreviewRequest]) -> Reply:
    """Render every channel of one."""
    body = call.body
    template = _chosen(context, _current(context, call), body.version)
    faults = [Fault(field, Code(code), message) for code, field, message in template.data_faults(body.data)]
    if body.locale is not None and (said := locale_fault(body.locale)) is not None:
        faults.append(Fault("locale", Code.INVALID, said))
    if faults:
        raise invalid(faults)
    return json_reply(
        PreviewAnswer(
            key=template.key,
            version=template.version,
            locale=context.renderer.locale_for(template, body.locale),
            channels={channel: _preview(context, template, channel, body) for channel in channels_of(template)},
        ),
    )


def _preview(context: ApiContext, template: Template, channel: str, body: PreviewRequest) -> Preview:
    try:
        content = context.renderer.render(
            template=template,
            content=None,
            channel=channel,
            data=body.data,
            person=Person(locale=body.locale),
            category=template.category or "default",
            reference=None,
            unsubscribe_url=None,
        )
    except RenderFailed as error:
        raise invalid([Fault("data", Code.TEMPLATE_ERROR, str(error))]) from error
    return Preview(subject=content.subject, text=content.text, html=content.html, data=dict(content.data))


def _current(context: ApiContext, call: Call[Any, Any]) -> Template:
    key = call.path["key"]
    template = None if key == CONTENT_KEY else context.renderer.current(key)
    if template is None:
        raise not_found("template", key[:100])
    return template


def _chosen(context: ApiContext, current: Template, version: int | str | None) -> Template:
    if version is None or str(version) == current.version:
        return current
    found = context.renderer.find(str(version))
    if found is None or found.key != current.key:
        message = f"The template {current.key!r} has no such version; the current one is {current.version}."
        raise invalid([Fault("version", Code.UNKNOWN_TEMPLATE, message)])
    return found


def _summary(template: Template) -> TemplateSummary:
    return TemplateSummary(
        key=template.key,
        version=template.version,
        description=template.description,
        category=template.category,
        channels=list(template.channels),
        locales=list(template.locales),
    )


def _variable(variable: Variable) -> VariableAnswer:
    return VariableAnswer(
        name=variable.name,
        required=variable.required,
        default=variable.default,
        description=variable.description,
        example=variable.example,
    )


OPERATIONS: Final = (
    Operation(
        id="listTemplates",
        method="GET",
        path="/v1/templates",
        tag=_TAG,
        summary="List the templates",
        act=list_templates,
        scopes=_READERS,
        query=ListQuery,
        answer=AnswerRule(type=Listing[TemplateSummary], description="A page, by key."),
    ),
    Operation(
        id="getTemplate",
        method="GET",
        path="/v1/templates/{key}",
        tag=_TAG,
        summary="Show a template: versions, variables, channels, locales",
        act=show_template,
        scopes=_READERS,
        answer=AnswerRule(type=TemplateDetail, description="The template."),
    ),
    Operation(
        id="previewTemplate",
        method="POST",
        path="/v1/templates/{key}/preview",
        tag=_TAG,
        summary="Render a template on every channel",
        description="Stores and sends nothing. A missing or undeclared variable is a 422 that names it.",
        act=preview,
        scopes=_READERS,
        body=BodyRule(type=PreviewRequest, examples={"german": {"data": {}, "locale": "de-AT"}}),
        answer=AnswerRule(type=PreviewAnswer, description="Every channel rendered."),
    ),
)
