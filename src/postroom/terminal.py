"""Text for a terminal or a log: nothing in it that a terminal would act on."""

from __future__ import annotations


def printable(text: str, *, lines: bool = True) -> str:
    """Return `text` with control and direction-changing characters written out, but for tabs.

    Line breaks stay unless `lines` is False: then a text is one line, whatever stands in it.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else "\t"
    return "".join(c if c.isprintable() or c in kept else _written(c) for c in text.replace("\r\n", "\n"))


def _written(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
