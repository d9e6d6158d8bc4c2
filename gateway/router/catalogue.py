"""Which template a key means to a project: the version it has published through the API, or else the folder's.

Owns what is published, as this process knows it, and the explicit versions that were asked for. Refuses to know how
templates render and who may edit them. What another process publishes is known after the next look, a second later;
what was accepted keeps the version it was accepted with.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn

from gateway.errors import GatewayError
from gateway.model.requests import SendRequest, TemplateChoice
from gateway.model.states import Mode
from gateway.render.renderer import Renderer
from gateway.render.source import CONTENT_KEY, decode
from gateway.render.template import Template
from gateway.storage.contract import EditedRow, EditRow, Store, StoreUnavailable

LOOK_S: Final = 1.0
"""How often a process looks for what others have published: one small statement."""
_MOST_NAMED: Final = 2_000
"""Explicit versions remembered; one that was forgotten is asked for again."""


def names_version(request: SendRequest) -> bool:
    """Say whether a request wants one version of its template, whatever is published."""
    return isinstance(request.template, TemplateChoice) and bool(request.template.version)


class Catalogue:
    """The templates as projects see them. `prepare` before what needs an explicit version; the rest never waits."""

    def __init__(self, *, renderer: Renderer, store: Store, log: Any) -> None:
        self._renderer = renderer
        self._store = store
        self._log = log
        self._published: dict[tuple[str, str], Template] = {}
        self._rows: dict[tuple[str, str], EditedRow] = {}
        self._named: OrderedDict[tuple[str, str, int], EditRow] = OrderedDict()

    async def follow(self) -> NoReturn:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.refresh()
            except StoreUnavailable as error:
                self._log.warning("templates_not_refreshed", error=str(error))

    async def refresh(self) -> None:
        """Learn what is published now. A version that cannot be read leaves the one before in its place."""
        rows = {(row.project, row.key): row for row in await self._store.edited_templates()}
        wanted = {where: row.published_version for where, row in rows.items() if row.published_version is not None}
        known = await self._load(set(wanted.values()))
        published: dict[tuple[str, str], Template] = {}
        for where, version in wanted.items():
            template = known.get(version) or self._published.get(where)
            if template is not None:
                published[where] = template
        self._published, self._rows = published, rows

    async def _load(self, versions: Collection[str]) -> Mapping[str, Template]:
        found = {version: template for version in versions if (template := self._renderer.find(version)) is not None}
        missing = [version for version in versions if version not in found]
        if not missing:
            return found
        for version, packed in (await self._store.template_sources(missing)).items():
            try:
                found[version] = self._renderer.add(decode(packed))
            except GatewayError as error:
                self._log.error("template_unreadable", version=version, error=str(error))
        return found

    @property
    def content(self) -> Template | None:
        """The layout of plain `content`."""
        return self._renderer.current(CONTENT_KEY)

    def current(self, project: str, key: str) -> Template | None:
        """Find the version new notifications of a project get."""
        if key.startswith("_"):
            return None
        return self._published.get((project, key)) or self._renderer.current(key)

    def folder(self, key: str) -> Template | None:
        """Find the folder's version, whatever is published over it."""
        return None if key.startswith("_") else self._renderer.current(key)

    def listed(self, project: str) -> list[Template]:
        """List the current templates of a project, sorted by key."""
        found = {template.key: template for template in self._renderer.templates()}
        found |= {key: template for (whose, key), template in self._published.items() if whose == project}
        return [found[key] for key in sorted(found)]

    def edited(self, project: str, key: str) -> EditedRow | None:
        """Find what is known of an edited template."""
        return self._rows.get((project, key))

    async def versions(self, project: str, key: str) -> tuple[EditRow, ...]:
        """List the edited versions of a template, newest first."""
        return await self._store.edits(project, key)

    async def prepare(self, project: str, *requests: SendRequest) -> None:
        """Fetch the explicit versions that requests name and this process does not know. Most name none."""
        choices = [one.template for one in requests if isinstance(one.template, TemplateChoice) and names_version(one)]
        if not choices:
            return
        for key in sorted({choice.key for choice in choices if isinstance(choice.version, int)}):
            await self.learn(project, key)
        hashes = {str(choice.version) for choice in choices if isinstance(choice.version, str)}
        edits = {
            row.version
            for choice in choices
            if isinstance(choice.version, int)
            and (row := self._named.get((project, choice.key, choice.version))) is not None
        }
        await self._load(hashes | edits)

    async def learn(self, project: str, key: str) -> tuple[EditRow, ...]:
        """Learn every version of one template, and answer them, newest first."""
        rows = await self._store.edits(project, key)
        for row in rows:
            self._named[project, key, row.number] = row
            self._named.move_to_end((project, key, row.number))
        while len(self._named) > _MOST_NAMED:
            self._named.popitem(last=False)
        return rows

    def version(self, project: str, key: str, version: int | str, mode: Mode | None) -> Template | None:
        """Find an explicit version that `prepare` has fetched. With a mode other than `test`, never a draft."""
        if isinstance(version, str):
            found = self._renderer.find(version)
            return found if found is not None and found.key == key and found.edition is None else None
        row = self._named.get((project, key, version))
        if row is None or (row.published_at is None and mode not in {None, Mode.TEST}):
            return None
        return self._renderer.find(row.version)

    async def explicit(self, project: str, key: str, version: int | str) -> Template | None:
        """Fetch and find an explicit version, a draft too."""
        if isinstance(version, str):
            await self._load([version])
        else:
            await self.learn(project, key)
            row = self._named.get((project, key, version))
            await self._load([row.version] if row is not None else [])
        return self.version(project, key, version, None)
