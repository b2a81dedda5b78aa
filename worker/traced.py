"""A step of the worker as a trace of its own: kept if it moved something on or failed, else as if it hadn't been."""

from collections.abc import Awaitable, Callable

from base.tracing import Kind, Tracing

Step = Callable[[], Awaitable[int]]


def traced_step(name: str, step: Step, tracing: Tracing) -> Step:
    """`step`, recorded under the job's name."""

    async def recorded() -> int:
        with tracing.span(f"step {name}", Kind.INTERNAL, {"onebook.step": name}, tentative=True) as span:
            moved = await step()
            span.set("onebook.moved", moved)
            if not moved:
                span.forget()
            return moved

    return recorded
