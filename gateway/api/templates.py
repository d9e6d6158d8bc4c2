"""`/v1/templates`: list, show, preview. What a template is and how it renders is `gateway.render`'s affair."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

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
from gateway.render.source import Variable, shown_version
from gateway.render.template import Template
from gateway.router.answers import Answer, Listing, utc

TAG: Final = "Templates"
_READERS: Final = (Scope.READ, Scope.MANAGE, Scope.SEND)


class VariableAnswer(Answer, frozen=True, kw_only=True):
    """What the template asks its caller for."""

    name: str
    required: bool
    default: Any
    description: str
    example: Any


class TemplateSummary(Answer, frozen=True, kw_only=True):
    """A template and its current version: none while there are drafts alone."""

    key: str
    version: int | str | None
    description: str
    category: str | None
    channels: list[str]
    locales: list[str]


class TemplateVersion(Answer, frozen=True, kw_only=True):
    """One version: an integer from the API, `sha256:…` from the folder. `current` is what new notifications get.

    A `draft` was never published.
    """

    version: int | str
    source: Literal["api", "folder"]
    current: bool
    draft: bool
    created_at: str | None


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
    version: int | str
    locale: str
    channels: dict[str, Preview]


async def list_templates(context: ApiContext, call: Call[ListQuery, None]) -> Reply:
    """List the project's current templates by key."""
    name = "templates"
    found = context.catalogue.listed(call.caller.project)
    if isinstance(call.query.cursor, str):
        behind = cursors.read(name, call.query.cursor).decode()
        found = [template for template in found if template.key > behind]
    return json_reply(listed(name, call.query, found, _summary, lambda template: template.key.encode()))


async def show_template(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show one."""
    key = call.path["key"]
    detail = await detail_of(context, call.caller.project, key)
    if detail is None:
        raise not_found("template", key[:100])
    return json_reply(detail)


async def detail_of(context: ApiContext, project: str, key: str) -> TemplateDetail | None:
    """Show a template as a project sees it; None where it sees nothing. Drafts alone show the newest of them."""
    edits = await context.catalogue.versions(project, key)
    current, folder = context.catalogue.current(project, key), context.catalogue.folder(key)
    template = current or (await context.catalogue.explicit(project, key, edits[0].number) if edits else None)
    if template is None:
        return None
    named = None if current is None else shown_version(current.version)
    versions = [
        TemplateVersion(
            version=one.number,
            source="api",
            current=one.number == named,
            draft=one.published_at is None,
            created_at=utc(one.created_at),
        )
        for one in edits
    ]
    if folder is not None:
        found = folder.version
        versions.append(
            TemplateVersion(version=found, source="folder", current=found == named, draft=False, created_at=None)
        )
    summary = msgspec.structs.replace(_summary(template), version=named)
    return TemplateDetail(
        **msgspec.structs.asdict(summary),
        variables=[variable_answer(one) for one in template.variables],
        versions=versions,
    )


async def preview(context: ApiContext, call: Call[NoQuery, PreviewRequest]) -> Reply:
    """Render every channel of one."""
    body = call.body
    template = await _chosen(context, call)
    faults = [Fault(field, Code(code), message) for code, field, message in template.data_faults(body.data)]
    if body.locale is not None and (said := locale_fault(body.locale)) is not None:
        faults.append(Fault("locale", Code.INVALID, said))
    if faults:
        raise invalid(faults)
    return json_reply(
        PreviewAnswer(
            key=template.key,
            version=shown_version(template.version),
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


async def _chosen(context: ApiContext, call: Call[NoQuery, PreviewRequest]) -> Template:
    """Find the version to preview: the one that is named, a draft too, or else the current or newest one."""
    key, project, version = call.path["key"], call.caller.project, call.body.version
    edits = await context.catalogue.versions(project, key)
    current = context.catalogue.current(project, key)
    if current is None and not edits:
        raise not_found("template", key[:100])
    if version is None and current is not None:
        return current
    found = await context.catalogue.explicit(project, key, edits[0].number if version is None else version)
    if found is None:
        raise invalid([Fault("version", Code.UNKNOWN_TEMPLATE, f"The template {key!r} has no such version.")])
    return found


def _summary(template: Template) -> TemplateSummary:
    return TemplateSummary(
        key=template.key,
        version=shown_version(template.version),
        description=template.description,
        category=template.category,
        channels=list(template.channels),
        locales=list(template.locales),
    )


def variable_answer(variable: Variable) -> VariableAnswer:
    """Show what a template asks for."""
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
        tag=TAG,
        summary="List the templates",
        description="What the project has published, and the folder's. What is a draft alone is found by its key.",
        act=list_templates,
        scopes=_READERS,
        query=ListQuery,
        answer=AnswerRule(type=Listing[TemplateSummary], description="A page, by key."),
    ),
    Operation(
        id="getTemplate",
        method="GET",
        path="/v1/templates/{key}",
        tag=TAG,
        summary="Show a template: versions, variables, channels, locales",
        act=show_template,
        scopes=_READERS,
        answer=AnswerRule(type=TemplateDetail, description="The template."),
    ),
    Operation(
        id="previewTemplate",
        method="POST",
        path="/v1/templates/{key}/preview",
        tag=TAG,
        summary="Render a template on every channel",
        description="Stores and sends nothing. A missing or undeclared variable is a 422 that names it.",
        act=preview,
        scopes=_READERS,
        body=BodyRule(type=PreviewRequest, examples={"german": {"data": {}, "locale": "de-AT"}}),
        answer=AnswerRule(type=PreviewAnswer, description="Every channel rendered."),
    ),
)
