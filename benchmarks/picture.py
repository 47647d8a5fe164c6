"""Where the time of a start goes, as a picture: one lane for each runtime, one bar
for each step.

Pure: from the figures' JSON to SVG 1.1.  Steps are drawn one after another with
their medians; below a machine's lane are the vmm's own steps, of the last round.
"""

from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

from benchmarks.host import GROUND
from benchmarks.phases import STEPS, TITLES
from benchmarks.report import render

WIDTH: Final = 1100
MARGIN: Final = 20
BAR_HEIGHT: Final = 26
LINE_HEIGHT: Final = 17
CHAR_WIDTH: Final = 6.6
"""The width of a character of FONT, about."""
FONT: Final = 'font-family="sans-serif" font-size="12"'
COLOURS: Final = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2", "#9c755f")
REST: Final = ("to the end and the removal", "#bab0ac")
UNKNOWN: Final = "the shim, to the first byte of output"


class Bar(NamedTuple):
    title: str
    colour: str
    begin_s: float
    length_s: float


class Lane(NamedTuple):
    title: str
    bars: tuple[Bar, ...]
    steps: tuple[Bar, ...]
    """The vmm's own."""
    notes: tuple[str, ...]

    @property
    def end_s(self) -> float:
        return max((bar.begin_s + bar.length_s for bar in self.bars), default=0.0)


def draw(figures: dict[str, Any]) -> str:
    lanes = [plan_lane(figures, runtime) for runtime in figures["runtimes"]]
    longest_s = max((lane.end_s for lane in lanes), default=0.0) or 1.0
    scale = (WIDTH - 2 * MARGIN) / longest_s
    parts: list[str] = []
    ground = f"times: {figures['host'].get(GROUND, 'unknown')}"
    parts.append(f'<text x="{MARGIN}" y="{MARGIN + 12}" {FONT}>{escape(ground)}</text>')
    y = MARGIN + LINE_HEIGHT + 3
    for lane in lanes:
        y = draw_lane(parts, lane, y, scale)
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    paper = f'<rect width="{WIDTH}" height="{y}" fill="white"/>'
    return "\n".join([head, paper, *parts, "</svg>", ""])


def plan_lane(figures: dict[str, Any], runtime: str) -> Lane:
    found = {
        name: by_runtime[runtime]["median"]
        for name, by_runtime in figures["metrics"].items()
        if runtime in by_runtime
    }
    begin_s = 0.0
    bars: list[Bar] = []
    vmm_s = 0.0
    for index, mark in enumerate(dict.fromkeys(mark for _, mark in STEPS)):
        length_s = found.get(f"phase_{mark}_s")
        if length_s is not None:
            bars.append(Bar(TITLES[mark], COLOURS[index], begin_s, length_s))
            begin_s += length_s
            vmm_s = begin_s if mark == "vmm" else vmm_s
    if len(bars) == 1 and "shim_first_byte_s" in found:
        bars.append(Bar(UNKNOWN, COLOURS[-1], begin_s, found["shim_first_byte_s"]))
        begin_s += bars[-1].length_s
    whole_s = found.get("create_to_delete_s", 0.0)
    if bars and whole_s > begin_s:
        bars.append(Bar(*REST, begin_s, whole_s - begin_s))
    boot = figures["details"].get(runtime, {}).get("boot", {})
    return Lane(runtime, tuple(bars), plan_steps(boot, vmm_s), list_notes(found, boot))


def plan_steps(boot: dict[str, Any], begin_s: float) -> tuple[Bar, ...]:
    steps = []
    for index, (name, length_us) in enumerate(boot.get("timings_us", {}).items()):
        steps.append(Bar(name, COLOURS[index % len(COLOURS)], begin_s, length_us / 1e6))
        begin_s += length_us / 1e6
    return tuple(steps)


def list_notes(found: dict[str, float], boot: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    if "run_execs" in found:
        notes.append(f"programs started: {render(found['run_execs'])}")
    if boot:
        exits = sorted(boot.get("exits", {}).items(), key=lambda item: -item[1])
        told = ", ".join(f"{reason} {count}" for reason, count in exits if count)
        notes.append(f"exits until the agent answers: {told or 'none'}")
    return tuple(notes)


def draw_lane(parts: list[str], lane: Lane, y: int, scale: float) -> int:
    """Returns where the next lane begins."""
    total = f"{lane.title}: {render(lane.end_s * 1000)} ms"
    parts.append(
        f'<text x="{MARGIN}" y="{y + 12}" {FONT} font-weight="bold">{escape(total)}</text>'
    )
    y += LINE_HEIGHT + 3
    for bars in (lane.bars, lane.steps):
        if bars:
            parts += [draw_bar(bar, y, scale) for bar in bars]
            y += BAR_HEIGHT + 4
            for bar in bars:
                y = draw_key(parts, bar, y)
            y += 6
    for note in lane.notes:
        parts.append(f'<text x="{MARGIN}" y="{y + 12}" {FONT}>{escape(note)}</text>')
        y += LINE_HEIGHT
    return y + MARGIN


def draw_bar(bar: Bar, y: int, scale: float) -> str:
    x, width = MARGIN + bar.begin_s * scale, max(bar.length_s * scale, 1.0)
    place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}"'
    tip = f"<title>{escape(describe(bar))}</title>"
    drawn = f'<rect {place} fill="{bar.colour}">{tip}</rect>'
    label = f"{render(bar.length_s * 1000)} ms"
    if len(label) * CHAR_WIDTH < width:
        drawn += f'<text x="{x + 3:.1f}" y="{y + 17}" {FONT} fill="white">{label}</text>'
    return drawn


def draw_key(parts: list[str], bar: Bar, y: int) -> int:
    parts.append(f'<rect x="{MARGIN}" y="{y + 3}" width="10" height="10" fill="{bar.colour}"/>')
    parts.append(f'<text x="{MARGIN + 16}" y="{y + 12}" {FONT}>{escape(describe(bar))}</text>')
    return y + LINE_HEIGHT


def describe(bar: Bar) -> str:
    return f"{bar.title}: {render(bar.length_s * 1000)} ms, from {render(bar.begin_s * 1000)} ms"
