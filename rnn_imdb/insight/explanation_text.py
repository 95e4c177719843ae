"""An explanation as text: a line for each word, or for a terminal the review itself in colours."""

from rnn_imdb.common.console import counted, display_width, one_line, pad
from rnn_imdb.insight.explanation import Explanation

# of xterm's 256 colours, from orange through grey to blue; black letters are legible on all
RAMP = (208, 215, 222, 230, 255, 189, 153, 111, 69)
BLACK, GREY = 16, 242
# columns of a word, and words in the list of those that changed most
LONGEST_WORD, MOST_WORDS = 40, 8


def plain_text(explanation: Explanation) -> str:
    """A line for each word: the word, its value, and ``unknown`` where it is."""
    before, within, after = notes(explanation)
    words = [printable_word(word.text) for word in explanation.words]
    width = max(map(display_width, words))
    lines = [
        f"  {pad(text, width)}  {_value(explanation, word.value)}{'' if word.known else '  unknown'}"
        for text, word in zip(words, explanation.words, strict=True)
    ]
    lines[explanation.gap : explanation.gap] = within
    return "\n".join([explanation.method, *before, *lines, *after])


def coloured_text(explanation: Explanation, columns: int) -> str:
    """The review in running text for a terminal of ``columns``, each word on the colour of its value.

    Unknown words have a grey question mark behind them; those of the list below are underlined, with their sign.
    """
    before, within, after = notes(explanation)
    listed, changes, (colours, legend) = explanation.strongest(MOST_WORDS), explanation.changes(), _scale(explanation)
    lines, room = [], 0
    for position, (word, colour) in enumerate(zip(explanation.words, colours, strict=True)):
        if within and position == explanation.gap:
            lines += within
            room = 0
        text = printable_word(word.text)
        if position in listed:
            # what the colour says, for who does not see it
            text += "-" if changes[position] < 0 else "+" * (changes[position] > 0)
        cell = _paint(text, colour, underlined=position in listed)
        width = display_width(text)
        if not word.known:
            cell += _paint("?", colour, letters=GREY)
            width += 1
        if width < room:
            lines[-1] += _paint(" ", colour) + cell
            room -= width + 1
        else:
            lines.append(cell)
            room = columns - width
    head = [explanation.method, *before, legend, ""]
    return "\n".join([*head, *lines, *(["", *after] if after else []), "", *_list(explanation, listed, colours)])


def printable_word(word: str) -> str:
    """A word without anything that a terminal would act on."""
    return one_line(word, LONGEST_WORD) or "\N{REPLACEMENT CHARACTER}"


def notes(explanation: Explanation, where: str = "here") -> tuple[list[str], list[str], list[str]]:
    """Lines to show before, within and after the words: what the model did not read, or read as padding."""
    before, after = explanation.before, explanation.after
    cut_before, cut_within, cut_after = explanation.cut
    front, behind = _cut("off in front", cut_before), []
    if explanation.quantity == "probability":
        padding = f" (after {counted(before.steps, 'padding step')})" if before.steps else ""
        front.append(f"before the first word{padding}: {before.value:.1%}")
        if after.steps:
            behind.append(f"after {counted(after.steps, 'padding step')}: {after.value:.1%}")
    else:
        for lines, (steps, value), side in ((front, before, "before"), (behind, after, "after")):
            if steps:
                lines.append(f"{counted(steps, 'padding step')} {side} the words: {value:+.4f}")
    return front, _cut(f"out {where}", cut_within), [*behind, *_cut("off behind", cut_after)]


def _cut(where: str, words: int) -> list[str]:
    return [f"cut {where}, never read: {counted(words, 'word')}"] if words else []


def _value(explanation: Explanation, value: float) -> str:
    return f"{value:6.1%}" if explanation.quantity == "probability" else f"{value:+8.4f}"


def _scale(explanation: Explanation) -> tuple[list[int], str]:
    """Each word's colour of RAMP, which goes from 0 to 1, or to the largest attribution on both sides; and a legend."""
    ends, shares = ("0%", "100%"), [word.value for word in explanation.words]
    if explanation.quantity == "attribution":
        largest = max(map(abs, shares))
        ends, shares = (f"{-largest:+.4f}", f"{largest:+.4f}"), [0.5 + 0.5 * v / (largest or 1.0) for v in shares]
    colours = [RAMP[min(int(share * len(RAMP)), len(RAMP) - 1)] for share in shares]
    return colours, f" {''.join(_paint('   ', colour) for colour in RAMP)} ".join(ends)


def _paint(text: str, colour: int, *, letters: int = BLACK, underlined: bool = False) -> str:
    return f"\x1b[{'4;' if underlined else ''}38;5;{letters};48;5;{colour}m{text}\x1b[0m"


def _list(explanation: Explanation, positions: list[int], colours: list[int]) -> list[str]:
    """The words at ``positions``, which changed most, and their numbers."""
    changes, probability = explanation.changes(), explanation.quantity == "probability"
    lines = [f"{'change  P after' if probability else 'attribution'}   no.  word that changed most (underlined above)"]
    for position in positions:
        word = explanation.words[position]
        change = f"{100 * changes[position]:+6.1f}" if probability else ""
        value = _paint(_value(explanation, word.value), colours[position])
        unknown = "" if word.known else "  (unknown)"
        lines.append(f"{change}   {value}  {word.number:>5,}  {printable_word(word.text)}{unknown}")
    return lines
