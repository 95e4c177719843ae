"""Text for terminals."""


def one_line(text: str, width: int) -> str:
    """``text`` on one line of at most ``width`` characters, without anything that a terminal would act on."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * width]).split())
    return line if len(line) <= width else line[: width - 3] + "..."
