"""An explanation as text: a line for each word, or for a terminal the review itself in colours."""

from rnn_imdb.common.console import display_width, one_line, pad
from rnn_imdb.insight.explanation import Explanation, Word

# of xterm's 256 colours, from red through grey to green; black letters are legible on all
RAMP = (203, 210, 217, 224, 255, 194, 151, 114, 71)
GREY = 242
# columns of a word, and words in the list of those that did most
LONGEST_WORD, MOST_WORDS = 40, 8


def plain_text(explanation: Explanation) -> str:
    """A line for each word: the word, its value, and ``unknown`` where it is."""
    words = [shown(word.text) for word in explanation.words]
    width = max(map(display_width, words), default=0)
    lines = [
        f"  {pad(text, width)}  {_value(explanation, word.value)}{'' if word.known else '  unknown'}"
        for text, word in zip(words, explanation.words, strict=True)
    ]
    at, _ = explanation.cut_within
    lines[at:at] = within_words(explanation)
    return "\n".join([*before_words(explanation), *lines, *after_words(explanation)])


def coloured_text(explanation: Explanation, columns: int) -> str:
    """The review in running text for a terminal, each word on the colour of its value.

    Unknown words have a grey question mark behind them; those of the list below are underlined.

    Args:
        explanation: what to show.
        columns: width of the terminal.
    """
    listed, colours = explanation.strongest(MOST_WORDS), _colours(explanation)
    at, missing = explanation.cut_within
    lines, room = [], 0
    for position, (word, colour) in enumerate(zip(explanation.words, colours, strict=True)):
        if missing and position == at:
            lines += within_words(explanation)
            room = 0
        cell, width = _cell(word, colour, underlined=position in listed)
        if width < room:
            lines[-1] += _on(colour, " ") + cell
            room -= width + 1
        else:
            lines.append(cell)
            room = columns - width
    behind = after_words(explanation)
    parts = [*before_words(explanation), _legend(explanation), "", *lines, *(["", *behind] if behind else [])]
    return "\n".join([*parts, "", *_list(explanation, listed, colours)])


def shown(word: str) -> str:
    """A word without anything that a terminal would act on."""
    return one_line(word, LONGEST_WORD) or "\N{REPLACEMENT CHARACTER}"


def before_words(explanation: Explanation) -> list[str]:
    """What there is to say ahead of the words: the method, and what the model did not read or read as padding."""
    steps, value = explanation.before
    lines = [explanation.method]
    if explanation.cut_before:
        lines.append(f"cut off in front, never read: {_many(explanation.cut_before, 'word')}")
    if explanation.quantity == "probability":
        after = f" (after {_many(steps, 'padding step')})" if steps else ""
        lines.append(f"before the first word{after}: {value:.1%}")
    elif steps:
        lines.append(f"{_many(steps, 'padding step')} before the words: {value:+.4f}")
    return lines


def within_words(explanation: Explanation, where: str = "here") -> list[str]:
    """What there is to say between two words."""
    _, missing = explanation.cut_within
    return [f"cut out {where}, never read: {_many(missing, 'word')}"] if missing else []


def after_words(explanation: Explanation) -> list[str]:
    """What there is to say behind the words."""
    steps, value = explanation.after
    lines = []
    if steps and explanation.quantity == "probability":
        lines.append(f"after {_many(steps, 'padding step')}: {value:.1%}")
    elif steps:
        lines.append(f"{_many(steps, 'padding step')} after the words: {value:+.4f}")
    if explanation.cut_after:
        lines.append(f"cut off behind, never read: {_many(explanation.cut_after, 'word')}")
    return lines


def _value(explanation: Explanation, value: float) -> str:
    return f"{value:6.1%}" if explanation.quantity == "probability" else f"{value:+8.4f}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _largest(explanation: Explanation) -> float:
    """The largest attribution, without its sign."""
    return max((abs(word.value) for word in explanation.words), default=0.0)


def _colours(explanation: Explanation) -> list[int]:
    """Of RAMP: probabilities from 0 to 1, attributions from the largest negative to the largest positive one."""
    shares = [word.value for word in explanation.words]
    if explanation.quantity == "attribution":
        largest = _largest(explanation) or 1.0
        shares = [0.5 + 0.5 * value / largest for value in shares]
    return [RAMP[min(int(share * len(RAMP)), len(RAMP) - 1)] for share in shares]


def _on(colour: int, text: str, *, letters: int = 16, underlined: bool = False) -> str:
    """``text`` in black, or the colour ``letters``, on ``colour``."""
    return f"\x1b[{'4;' if underlined else ''}38;5;{letters};48;5;{colour}m{text}\x1b[0m"


def _cell(word: Word, colour: int, *, underlined: bool) -> tuple[str, int]:
    """A word on its colour, and the columns it takes."""
    text = shown(word.text)
    cell = _on(colour, text, underlined=underlined)
    width = display_width(text)
    return (cell, width) if word.known else (cell + _on(colour, "?", letters=GREY), width + 1)


def _legend(explanation: Explanation) -> str:
    scale = "".join(_on(colour, "   ") for colour in RAMP)
    if explanation.quantity == "probability":
        return f"0% {scale} 100%"
    largest = _largest(explanation)
    return f"{-largest:+.4f} {scale} {largest:+.4f}"


def _list(explanation: Explanation, positions: list[int], colours: list[int]) -> list[str]:
    """The words that changed most, and their numbers."""
    moves = explanation.moves()
    probability = explanation.quantity == "probability"
    lines = [f"{'change  P after' if probability else 'attribution'}   no.  word that changed most (underlined above)"]
    for position in positions:
        word = explanation.words[position]
        value = _on(colours[position], _value(explanation, word.value))
        change = f"{100 * moves[position]:+6.1f}   {value}" if probability else f"   {value}"
        unknown = "" if word.known else "  (unknown)"
        lines.append(f"{change}  {word.number:>5,}  {shown(word.text)}{unknown}")
    return lines
