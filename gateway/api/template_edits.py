"""Templates edited through the API: new drafts, what is published, and the folder's back.

Owns the three operations and their order: names, texts, a try, a number, the store. What a version is and how it
renders is `gateway.render`'s affair; what a project sees is `gateway.router.catalogue`'s.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation
from gateway.api.templates import TAG, TemplateDetail, VariableAnswer, detail_of, variable_answer
from gateway.errors import Code, Fault, invalid, not_found
from gateway.model.requests import Request
from gateway.model.states import Scope
from gateway.render.edition import Edit, edit_faults, edition_source, field_faults
from gateway.render.source import KEY, encode
from gateway.render.template import Template, TemplateBroken
from gateway.router.answers import Answer, utc
from gateway.storage.contract import EditRow

_EXAMPLE: Final = {
    "description": "Says that a table is ready.",
    "variables": {"table": {"example": "7"}, "name": {"default": "dear guest", "example": "Ada"}},
    "parts": {
        "en": {
            "title": "Your table is ready",
            "body": "Come in, {{ name }}: table **{{ table }}** is yours.",
            "email.subject": "Table {{ table }} is ready",
            "email.html": "<p>Come in, {{ name }}: table <b>{{ table }}</b> is yours.</p>",
            "sms": "Table {{ table }} is ready, {{ name }}.",
        }
    },
}


class DraftAnswer(Answer, frozen=True, kw_only=True):
    """A new version, which nobody gets until it is published."""

    key: str
    version: int
    published: bool
    description: str
    category: str | None
    channels: list[str]
    locales: list[str]
    variables: list[VariableAnswer]
    created_at: str


class PublishRequest(Request, frozen=True, kw_only=True):
    """Which version new notifications get from now on."""

    version: int


async def put_template(context: ApiContext, call: Call[NoQuery, Edit]) -> Reply:
    """Keep a new draft version."""
    key, project, edit = call.path["key"], call.caller.project, call.body
    faults = edit_faults(edit, context.settings.channels)
    if not KEY.fullmatch(key):
        faults.append(Fault("key", Code.INVALID, "a key is lower-case letters, digits, '.', '_' and '-'"))
        raise invalid(faults)
    template = await _checked(context, key, edit, faults)
    now = context.clock()
    number = await context.store.next_edit(project, key, now)
    layouts = context.renderer.content_source.files
    source = edition_source(edit, project=project, key=key, number=number, layouts=layouts)
    row = EditRow(project=project, key=key, number=number, version=source.version, created_at=now)
    await context.store.keep_edit(row, encode(source))
    return json_reply(
        DraftAnswer(
            key=key,
            version=number,
            published=False,
            description=template.description,
            category=template.category,
            channels=list(template.channels),
            locales=list(template.locales),
            variables=[variable_answer(one) for one in template.variables],
            created_at=utc(now),
        ),
        201,
    )


async def _checked(context: ApiContext, key: str, edit: Edit, faults: list[Fault]) -> Template:
    """Compile a draft and try it on every channel; raises `Problem` (422) with every fault."""
    layouts = context.renderer.content_source.files
    source = edition_source(edit, project="", key=key, number=0, layouts=layouts)
    try:
        template = context.renderer.compile(source)
    except TemplateBroken as error:
        raise invalid(faults + field_faults(edit, key, error.faults)) from error
    if not faults:
        for locale in template.locales:
            faults += field_faults(edit, key, context.renderer.try_locale(template, locale))
            await asyncio.sleep(0)  # others get their turn
    if faults:
        raise invalid(faults)
    return template


async def publish(context: ApiContext, call: Call[NoQuery, PublishRequest]) -> Reply:
    """Publish a version."""
    key, project, number = call.path["key"], call.caller.project, call.body.version
    await _must_exist(context, call)
    if not 0 < number < 2**63 or not await context.store.publish_edit(project, key, number, context.clock()):
        raise invalid([Fault("version", Code.UNKNOWN_TEMPLATE, f"{key} has no version {number}")])
    await context.catalogue.refresh()
    return json_reply(await _detail(context, call))


async def unpublish(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Take the published version back. Repeatable."""
    await _must_exist(context, call)
    await context.store.unpublish_edit(call.caller.project, call.path["key"], context.clock())
    await context.catalogue.refresh()
    return json_reply(await _detail(context, call))


async def _must_exist(context: ApiContext, call: Call[Any, Any]) -> None:
    await _detail(context, call)


async def _detail(context: ApiContext, call: Call[Any, Any]) -> TemplateDetail:
    key = call.path["key"]
    detail = await detail_of(context, call.caller.project, key)
    if detail is None:
        raise not_found("template", key[:100])
    return detail


OPERATIONS: Final = (
    Operation(
        id="putTemplate",
        method="PUT",
        path="/v1/templates/{key}",
        tag=TAG,
        summary="Write a new draft version of a template",
        description=(
            "Parts are Liquid, by the names of a folder's: `title`, `body` (Markdown), `url`, `actions`, "
            "`email.subject`, `email.html`, `sms`, `slack.json`, … for each locale. Every fault is listed with its "
            "field: names, syntax, variables that are not declared, and what fails with the variables' examples. A "
            "draft is seen in previews; `test` keys may send it by its version. It belongs to the key's project."
        ),
        act=put_template,
        scopes=(Scope.MANAGE,),
        body=BodyRule(type=Edit, examples={"table": _EXAMPLE}),
        answer=AnswerRule(type=DraftAnswer, status=201, description="The version, a draft."),
    ),
    Operation(
        id="publishTemplate",
        method="POST",
        path="/v1/templates/{key}/publish",
        tag=TAG,
        summary="Publish a version of a template",
        description=(
            "New notifications of the project get it from now on, instead of the folder's, in every process within two "
            "seconds. What was accepted before keeps its version."
        ),
        act=publish,
        scopes=(Scope.MANAGE,),
        body=BodyRule(type=PublishRequest, examples={"first": {"version": 1}}),
        answer=AnswerRule(type=TemplateDetail, description="The template as it is now."),
    ),
    Operation(
        id="unpublishTemplate",
        method="POST",
        path="/v1/templates/{key}/unpublish",
        tag=TAG,
        summary="Take the published version of a template back",
        description="Gives the folder's version back, if there is one. Without a published version nothing changes.",
        act=unpublish,
        scopes=(Scope.MANAGE,),
        answer=AnswerRule(type=TemplateDetail, description="The template as it is now."),
    ),
)
