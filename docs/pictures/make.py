"""Draws the pictures of the documents: each NAME.toml beside this file becomes NAME.svg.

    python3 docs/pictures/make.py            writes them
    python3 docs/pictures/make.py --check    tells which are not what their data says

A picture is zones (where something runs, and who trusts it), boxes and arrows, with
coordinates in pixels.  Nothing is measured or placed by itself: what is in the file is
where it is.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

HERE: Final = Path(__file__).parent
LINE_PX: Final = 15
ZONE_FILLS: Final = {
    "host": "#eef3fa",
    "guarded": "#fdf3e1",
    "guest": "#fbe9e7",
    "plain": "#f4f4f4",
}
FONT: Final = "font-family='Helvetica, Arial, sans-serif'"
ARROW_HEAD: Final = (
    "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7'"
    " orient='auto-start-reverse'><path d='M0,0 L8,4 L0,8 z' fill='#333'/></marker></defs>"
)


def draw(picture: dict[str, Any]) -> str:
    """The text of the SVG; its title is what a screen reader says."""
    width, height = picture["size"]
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}'"
        f" height='{height}' role='img'>",
        f"<title>{escape(picture['title'])}</title>",
        ARROW_HEAD,
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
    ]
    parts += [draw_zone(zone) for zone in picture.get("zone", [])]
    parts += [draw_line(line) for line in picture.get("line", [])]
    parts += [draw_box(box) for box in picture.get("box", [])]
    parts += [draw_arrow(arrow) for arrow in picture.get("arrow", [])]
    parts += [draw_text(note["at"], note["text"], size=12) for note in picture.get("note", [])]
    return "\n".join([*parts, "</svg>", ""])


def draw_zone(zone: dict[str, Any]) -> str:
    x, y, width, height = zone["place"]
    rectangle = (
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='8'"
        f" fill='{ZONE_FILLS[zone['kind']]}' stroke='#999' stroke-dasharray='4 3'/>"
    )
    return rectangle + "\n" + draw_text([x + 10, y + 18], zone["text"], size=12, bold=True)


def draw_box(box: dict[str, Any]) -> str:
    x, y, width, height = box["place"]
    lines = box["text"]
    parts = [
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='4' fill='#fff'"
        " stroke='#333'/>"
    ]
    top = y + height / 2 - LINE_PX * (len(lines) - 1) / 2 + 4
    for number, text in enumerate(lines):
        place = [x + width / 2, top + LINE_PX * number]
        parts.append(
            draw_text(place, text, size=11 if number else 13, middle=True, bold=number == 0)
        )
    return "\n".join(parts)


def draw_line(line: dict[str, Any]) -> str:
    (x1, y1), (x2, y2) = line["points"]
    return f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='#bbb' stroke-dasharray='3 3'/>"


def draw_arrow(arrow: dict[str, Any]) -> str:
    points = " ".join(f"{x},{y}" for x, y in arrow["points"])
    both = " marker-start='url(#head)'" if arrow.get("both") else ""
    line = (
        f"<polyline points='{points}' fill='none' stroke='#333' stroke-width='1.3'"
        f" marker-end='url(#head)'{both}/>"
    )
    texts = arrow.get("text", [])
    if not texts:
        return line
    x, y = arrow["at"]
    middle = arrow.get("middle", False)
    return "\n".join(
        [line]
        + [
            draw_text([x, y + LINE_PX * number], text, size=11, middle=middle)
            for number, text in enumerate(texts)
        ]
    )


def draw_text(
    place: list[float], text: str, *, size: int, middle: bool = False, bold: bool = False
) -> str:
    x, y = place
    anchor = " text-anchor='middle'" if middle else ""
    weight = " font-weight='bold'" if bold else ""
    return (
        f"<text x='{x:g}' y='{y:g}' font-size='{size}' {FONT} fill='#222'{anchor}{weight}>"
        f"{escape(text)}</text>"
    )


def list_pictures() -> list[Path]:
    return sorted(HERE.glob("*.toml"))


def render(source: Path) -> str:
    return draw(tomllib.loads(source.read_text()))


def main(arguments: list[str]) -> int:
    stale = []
    for source in list_pictures():
        target = source.with_suffix(".svg")
        text = render(source)
        if target.exists() and target.read_text() == text:
            continue
        stale.append(target.name)
        if arguments != ["--check"]:
            target.write_text(text)
    if arguments == ["--check"] and stale:
        print(f"not what their data says: {', '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
