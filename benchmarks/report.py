"""Figures to JSON and Markdown.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.host import GROUND
from benchmarks.measures import METRICS, Found, Metric


@dataclass(slots=True)
class Figures:
    """Everything that one run has found."""

    taken_at: str
    host: dict[str, str]
    settings: dict[str, Any]
    runtimes: tuple[str, ...]
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By metric, then by runtime."""
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By runtime; of the last round."""
    steps_us: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """The vmm's own, by runtime and in their order; of every round."""
    failures: list[str] = field(default_factory=list)

    def add(self, runtime: str, found: Found) -> None:
        self.details.setdefault(runtime, {}).update(found.details)
        for name, us in found.details.get("boot", {}).get("timings_us", {}).items():
            self.steps_us.setdefault(runtime, {}).setdefault(name, []).append(us)
        for metric, value in found.samples.items():
            self.samples.setdefault(metric, {}).setdefault(runtime, []).append(value)

    def to_json(self) -> dict[str, Any]:
        return {
            "taken_at": self.taken_at,
            "host": self.host,
            "settings": self.settings,
            "runtimes": self.runtimes,
            "metrics": {name: summarize(by) for name, by in self.samples.items()},
            "details": self.details,
            "steps_us": self.steps_us,
            "failures": self.failures,
        }


def summarize(by_runtime: dict[str, list[float]]) -> dict[str, Any]:
    return {
        runtime: {
            "median": median(values),
            "min": min(values),
            "max": max(values),
            "samples": values,
        }
        for runtime, values in by_runtime.items()
    }


def render_markdown(figures: Figures, metrics: Mapping[str, Metric] = METRICS) -> str:
    """The others are compared with the last runtime."""
    *ours, base = figures.runtimes
    heads = [f"{name}: median (min–max) | ratio" for name in ours]
    lines = [
        f"| beside {base} | ground | {' | '.join(heads)} | {base} |",
        "|---" * (3 + 2 * len(ours)) + "|",
    ]
    for name, metric in metrics.items():
        by_runtime = figures.samples.get(name, {})
        if by_runtime:
            cells = [render_title(metric), name_ground(metric, figures.host)]
            for runtime in ours:
                cells.append(render_cell(by_runtime.get(runtime, [])))
                cells.append(render_ratio(by_runtime, runtime, base))
            cells.append(render_cell(by_runtime.get(base, [])))
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for runtime in ours:
        lines += render_exits(runtime, figures.details.get(runtime, {}))
        steps = figures.steps_us.get(runtime, {})
        rows = [(name, f"{median(values) / 1000:.1f}") for name, values in steps.items()]
        ground = figures.host.get(GROUND, "unknown")
        lines += render_list(f"{runtime}: the vmm's steps, ms, medians, {ground}", rows)
    lines += [f"- {name}: {value}" for name, value in figures.host.items()]
    lines += [f"- {name}: {value}" for name, value in figures.settings.items()]
    lines += [f"- **failed**: {failure}" for failure in figures.failures]
    return "\n".join(lines) + "\n"


def name_ground(metric: Metric, host: Mapping[str, str]) -> str:
    return "count" if metric.is_count else host.get(GROUND, "unknown")


def render_title(metric: Metric) -> str:
    return f"{metric.title}, {metric.unit}{', more is better' if metric.more_is_better else ''}"


def render_cell(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{render(median(values))} ({render(min(values))}–{render(max(values))})"


def render_ratio(by_runtime: dict[str, list[float]], ours: str, theirs: str) -> str:
    if not by_runtime.get(ours) or not by_runtime.get(theirs):
        return "–"
    base = median(by_runtime[theirs])
    return f"{median(by_runtime[ours]) / base:.2f}" if base else "–"


def render(value: float) -> str:
    """Three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def render_exits(runtime: str, details: dict[str, Any]) -> list[str]:
    """Exits from the machine's first instruction to the agent's answer, most frequent
    first."""
    exits = details.get("boot", {}).get("exits", {})
    title = f"{runtime}: exits until the agent answers, count: {sum(exits.values())}"
    ranked = sorted(exits.items(), key=lambda item: -item[1])
    return render_list(title, [(reason, str(count)) for reason, count in ranked])


def render_list(title: str, rows: list[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    return [f"| {title} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
