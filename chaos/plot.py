#!/usr/bin/env python3
"""Usage: chaos/plot.py SOAK.csv DIRECTORY

Draws what scripts/chaos soak has noted: an SVG for memory, descriptors, sizes and counts each. Needs
nothing but Python.
"""

import csv
import html
import os
import sys

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 30, 30
COLORS = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2"]
MEBIBYTE = 1024 * 1024

# file, title, what a column's name ends with (or its whole name), divisor
CHARTS = [
    ("memory", "Memory of the services, MiB", [" memory_bytes"], MEBIBYTE),
    ("descriptors", "Open file descriptors of the services", [" descriptors"], 1),
    ("series", "Series of metrics of the services", [" series"], 1),
    ("sizes", "Sizes, MiB", ["users_bytes", "outbox_bytes", "stream_bytes", "copy_bytes"], MEBIBYTE),
    ("counts", "Users, messages on the stream, documents of the copy", ["users", "stream_messages", "copies"], 1),
    ("pending", "Events that wait in the outbox", ["pending"], 1),
]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) < 2:
        sys.exit(f"{sys.argv[1]} has fewer than two samples")
    os.makedirs(sys.argv[2], exist_ok=True)
    for name, title, endings, divisor in CHARTS:
        columns = [column for column in rows[0] if any(belongs(column, it) for it in endings)]
        path = os.path.join(sys.argv[2], f"soak-{name}.svg")
        with open(path, "w") as file:
            file.write(chart(title, rows, columns, divisor))


def belongs(column, ending):
    return column.endswith(ending) if ending.startswith(" ") else column == ending


def chart(title, rows, columns, divisor):
    lines = {column: points(rows, column, divisor) for column in columns}
    end = max(int(row["seconds"]) for row in rows) or 1
    top = max((value for line in lines.values() for _, value in line), default=1) * 1.1 or 1

    def place(seconds, value):
        x = LEFT + seconds / end * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="13">{html.escape(title)}</text>',
    ]
    for step in range(5):
        value = top * step / 4
        x, y = place(0, value).split(",")
        parts.append(f'<line x1="{x}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end">{value:,.0f}</text>')
    for step in range(5):
        x, _ = place(end * step / 4, 0).split(",")
        minutes = end * step / 4 / 60
        parts.append(f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="middle">{minutes:.0f} min</text>')
    for index, (column, line) in enumerate(lines.items()):
        color = COLORS[index % len(COLORS)]
        path = " ".join(place(*point) for point in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}"/>')
        y = TOP + 14 * (index + 1)
        label = column.removesuffix("_bytes").replace(" memory", "").replace("_", " ")
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y}" fill="{color}">{html.escape(label)}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def points(rows, column, divisor):
    return [(int(row["seconds"]), int(row[column]) / divisor) for row in rows if row[column]]


if __name__ == "__main__":
    main()
