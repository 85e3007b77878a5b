"""Draws what `bench` measured: a group of bars for each section, as long as the times, the slowest of a group across the page."""

from xml.sax.saxutils import escape

WIDTH, LABEL, FIGURE, BAR, GAP = 860, 150, 110, 16, 14
COLOURS = {"rcr": "#c2410c", "floor": "#6b7280", "other": "#60a5fa"}


def colour(name):
    return COLOURS["rcr" if name.startswith("rcr") else "floor" if name.startswith("(") else "other"]


def figure(value, unit):
    if unit == "KiB":
        return f"{value / 1024:.1f} MiB"
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def svg(results):
    """The text of an SVG document that reads on light and on dark pages."""
    out, y = [], GAP
    for result in results:
        out.append(f'<text x="0" y="{y + 12}" class="title">{escape(result["section"])}: {escape(result["title"])}</text>')
        y += BAR + 6
        longest = max(result["medians"].values(), default=1)
        for name, value in sorted(result["medians"].items(), key=lambda item: item[1]):
            long = max(2, (WIDTH - LABEL - FIGURE) * value / longest)
            out.append(f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
            out.append(f'<rect x="{LABEL}" y="{y}" width="{long:.1f}" height="{BAR - 2}" rx="2" fill="{colour(name)}"/>')
            out.append(f'<text x="{LABEL + long + 6:.1f}" y="{y + 12}">{figure(value, result["unit"])}</text>')
            y += BAR + 2
        y += GAP
    style = "text{font:12px sans-serif;fill:#6b7280}.title{font-weight:bold}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}"><style>{style}</style>\n' + "\n".join(out) + "\n</svg>\n"
