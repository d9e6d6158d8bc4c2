"""How long a message takes to render: every shipped template, and `content`, with and without the cache.

`run()` answers microseconds per message, the best of several rounds (the machine has other work), and prints nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.model.requests import Action, ContentRequest
from gateway.render.renderer import Person, Renderer
from gateway.render.template import Template

ROUNDS = 7
BODY = """Hello **Ada**, your *report* number {number} is ready.

- The first point has a [link](https://example.com/a)
- The second one has none

It took 3 minutes. See `code` for more, or write to us at any time of the day."""


def run(*, messages: int = 200) -> dict[str, float]:
    """Measure; the keys name what was rendered, the values are microseconds a message."""
    uncached = Renderer(None, public_url="https://notify.example.com", product="Example", cache_bytes=0)
    cached = Renderer(None, public_url="https://notify.example.com", product="Example")
    uncached.load()
    cached.load()
    results: dict[str, float] = {}
    for template in uncached.templates():
        results[f"template {template.key}"] = _per_call(_template_calls(uncached, template), messages)
    results["template, cached"] = _per_call(_repeated(cached, cached.templates()[0]), messages)
    results["content, another body each time"] = _per_call(_content_calls(uncached), messages)
    results["content, cached"] = _per_call(_same_content(cached), messages)
    return results


def _template_calls(renderer: Renderer, template: Template) -> Callable[[int], object]:
    data = template.examples() or {}

    def own(number: int) -> dict[str, object]:
        # Every order has sums of its own, so that remembering them does not flatter the figure.
        items = [{**item, "price": f"{number}.{index}"} for index, item in enumerate(data.get("items", []))]
        return {**data, "items": items, "total": f"{number}.99", "order_id": f"A-{number}"} if items else data

    return lambda number: renderer.render(
        template=template,
        content=None,
        channel="email",
        data=own(number),
        person=Person(name=f"Ada {number}", locale="de" if number % 2 else "en"),
        category="orders",
        reference=f"ref-{number}",
        unsubscribe_url=f"https://notify.example.com/unsubscribe/{number}",
    )


def _repeated(renderer: Renderer, template: Template) -> Callable[[int], object]:
    again = _template_calls(renderer, template)
    return lambda _number: again(0)


def _content_calls(renderer: Renderer) -> Callable[[int], object]:
    def render(number: int) -> object:
        content = ContentRequest(
            title=f"Report {number}",
            body=BODY.format(number=number),
            actions=[Action(label="Open", url=f"https://example.com/{number}")],
        )
        return renderer.render(
            template=None,
            content=content,
            channel="email",
            data={},
            person=Person(name="Ada", locale="en"),
            category="default",
            reference=None,
            unsubscribe_url=None,
        )

    return render


def _same_content(renderer: Renderer) -> Callable[[int], object]:
    again = _content_calls(renderer)
    return lambda _number: again(0)


def _per_call(call: Callable[[int], object], messages: int) -> float:
    # The numbers never come again, so that nothing remembered from an earlier round helps.
    for number in range(20):
        call(number)
    best = float("inf")
    for turn in range(ROUNDS):
        start = time.perf_counter()
        for number in range(1000 + turn * messages, 1000 + (turn + 1) * messages):
            call(number)
        best = min(best, time.perf_counter() - start)
    return round(best / messages * 1e6, 1)


if __name__ == "__main__":
    for name, microseconds in run().items():
        print(f"{name:40} {microseconds:8.1f} µs")
