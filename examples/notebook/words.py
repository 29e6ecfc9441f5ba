"""Tasks for the notebook: in a module, because workers import it. `goqueue dev words:app` runs them."""

from __future__ import annotations

import asyncio

from goqueue import Context, GoQueue

app = GoQueue()


@app.task
async def count_words(ctx: Context[None], lines: list[str]) -> dict[str, int]:
    """Count words, and say how far it is."""
    counted: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        for word in line.lower().split():
            counted[word] = counted.get(word, 0) + 1
        ctx.progress({"line": number, "of": len(lines)})
        await asyncio.sleep(0.2)  # stands for work
    return counted
