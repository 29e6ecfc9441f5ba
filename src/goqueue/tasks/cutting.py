"""Texts of any length and content as a store can hold them."""

from __future__ import annotations


def cut(text: str, chars_max: int) -> str:
    """Return ``text`` as a store can hold it: no NUL, no lone surrogate, what is too long cut with a mark."""
    if len(text) > chars_max:
        mark = f" … [{len(text) - chars_max} characters and more cut] … "
        kept = max(0, chars_max - len(mark))
        head = kept * 2 // 3
        text = (text[:head] + mark + (text[len(text) - (kept - head) :] if kept > head else ""))[:chars_max]
    if "\0" in text:
        text = text.replace("\0", "\N{SYMBOL FOR NULL}")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text
