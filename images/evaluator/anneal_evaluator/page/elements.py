"""The few elements that the page is made of, and how numbers and foreign text are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

SYMBOLS = {"Passed": "✓", "Failed": "✗", "Inconclusive": "?"}
_CHARACTERS = 600  # of each text from data or a model
_CODE = 19  # of a digest: sha256: and 12 digits


def section(title: str, *content: str, hint: str = "") -> str:
    """A part of the page; nothing at all when it has no content."""
    body = "".join(content)
    if not body:
        return ""
    note = f'<p class="hint">{hint}</p>' if hint else ""
    return f"<section><h2>{escape(title)}</h2>{note}{body}</section>"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first column names the row; cells are HTML already. It scrolls by itself where it is too wide."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    if not lines:
        return ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def bars(steps: Sequence[tuple[str, int, str]]) -> str:
    """(what, how many, a note) each as a bar; shares are of the first."""
    first, widest = max(1, steps[0][1]), max(1, *(n for _, n, _ in steps))
    lines = "".join(
        f'<div class="line"><div>{escape(name)}</div><svg class="funnel" height="16" aria-hidden="true">'
        f'<rect class="all" width="100%" height="16" rx="3"/>'
        f'<rect class="left" width="{100 * n / widest:.2f}%" height="16" rx="3"/></svg>'
        f'<div class="figures">{n} <small>({percent(n / first)}){note}</small></div></div>'
        for name, n, note in steps
    )
    return f'<div class="forest">{lines}</div>'


def said(text: str, characters: int = _CHARACTERS) -> str:
    """Text from data or a model: bounded, escaped, and in a direction of its own."""
    shown = text if len(text) <= characters else text[:characters] + "…"
    return f'<bdi class="said">{escape(shown)}</bdi>' if shown.strip() else '<i class="none">nothing</i>'


def code(text: str) -> str:
    """A digest, short; whole on pointing at it."""
    short = text[:_CODE] + "…" if text.startswith("sha256:") else text
    return f'<code title="{escape(text)}">{escape(short)}</code>'


def percent(share: str | float) -> str:
    """A share of 0 to 1 in percent."""
    return f"{100 * float(share):.1f} %"


def points(difference: str | float) -> str:
    """A difference of shares in points, with its sign."""
    value = round(100 * float(difference), 1)
    return f"{'+' if value > 0 else '−' if value < 0 else '±'}{abs(value):.1f}"
