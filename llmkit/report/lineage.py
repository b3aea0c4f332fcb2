"""The stages of a run as a drawn graph: which was made from which, as inline SVG.

Rows are depths (the longest way from a source); an arrow that passes a row by runs down a lane of
its own at the right of the boxes, as in a drawing of a version history, so that none crosses a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

BOX, TALL = 128, 42  # width and height of a stage, pixels
GAP, BETWEEN = 14, 34  # between boxes of a row, and between rows
LANE = 14  # width of a lane
EDGE = 8  # around the drawing
LONGEST = 16  # characters of a name that a box holds

Parents = Mapping[str, Sequence[str]]


def lineage(parents: Parents, notes: Mapping[str, str]) -> str:
    """An `<svg>` of the stages (keys, parents before children), each with its note below its name.

    A parent that is no key, or that comes later, is left out.
    """
    rows = by_depth(parents)
    places = {name: (row, i) for row, names in enumerate(rows) for i, name in enumerate(names)}
    lanes = lanes_of(parents, {name: row for name, (row, _) in places.items()})
    boxes = EDGE + max(map(len, rows)) * (BOX + GAP)
    width = boxes + LANE * (1 + max(lanes.values(), default=-1)) + EDGE
    height = 2 * EDGE + len(rows) * (TALL + BETWEEN) - BETWEEN
    parts = [
        f'<svg class="lineage" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img"><title>{escape(in_words(parents))}</title>'
    ]
    for name, (row, column) in places.items():
        for parent in known(parents, name):
            lane = boxes + LANE * lanes[parent] + LANE / 2 if parent in lanes else 0.0
            parts.append(arrow(corner(*places[parent]), corner(row, column), lane))
    parts += [box(*corner(*places[name]), name, notes.get(name, "")) for name in places]
    return "".join([*parts, "</svg>"])


def known(parents: Parents, name: str) -> list[str]:
    """The parents that stand before `name`: edited records may hold others, or a circle."""
    before = list(parents)[: list(parents).index(name)]
    return [parent for parent in dict.fromkeys(parents[name]) if parent in before]


def by_depth(parents: Parents) -> list[list[str]]:
    """The stages in rows, each one row below the lowest of its parents.

    In a row a stage stands by its parents' places in theirs, so that few arrows cross.
    """
    depths: dict[str, int] = {}
    for name in parents:
        depths[name] = 1 + max((depths[parent] for parent in known(parents, name)), default=-1)
    rows: list[list[str]] = []
    place: dict[str, float] = {}
    for depth in range(1 + max(depths.values(), default=-1)):
        row = [name for name in parents if depths[name] == depth]
        for name in row:
            above = [place[parent] for parent in known(parents, name)]
            place[name] = sum(above) / len(above) if above else 0.0
        row.sort(key=lambda name: place[name])
        place |= {name: float(number) for number, name in enumerate(row)}
        rows.append(row)
    return rows


def lanes_of(parents: Parents, depths: Mapping[str, int]) -> dict[str, int]:
    """Parent -> the lane of its arrows that pass rows by; lanes are shared where rows allow it."""
    spans: dict[str, int] = {}  # parent -> the last row that its lane passes
    for name in parents:
        for parent in known(parents, name):
            if depths[name] > depths[parent] + 1:
                spans[parent] = max(spans.get(parent, 0), depths[name] - 1)
    lanes: dict[str, int] = {}
    used: list[int] = []  # lane -> the last row that it is taken for
    for parent in sorted(spans, key=lambda name: depths[name]):
        free = [lane for lane, last in enumerate(used) if last <= depths[parent]]
        lane = free[0] if free else len(used)
        used[lane : lane + 1] = [spans[parent]]
        lanes[parent] = lane
    return lanes


def corner(row: int, column: int) -> tuple[float, float]:
    """The upper left corner of a box."""
    return EDGE + column * (BOX + GAP), EDGE + row * (TALL + BETWEEN)


def arrow(parent: tuple[float, float], child: tuple[float, float], lane: float) -> str:
    """From the foot of one box to the head of another, by the lane where rows lie between."""
    x, y = parent[0] + BOX / 2, parent[1] + TALL
    to_x, to_y = child[0] + BOX / 2, child[1] - 6
    half = BETWEEN / 2
    if to_y - y < BETWEEN:
        path = f"M{x} {y}C{x} {y + half} {to_x} {to_y - half} {to_x} {to_y}"
    else:
        into, out = y + BETWEEN, child[1] - BETWEEN
        path = f"M{x} {y}C{x} {y + half} {lane} {into - half} {lane} {into}V{out}"
        path += f"C{lane} {out + half} {to_x} {to_y - half} {to_x} {to_y}"
    head = f"M{to_x - 4} {to_y - 1}h8l-4 7z"
    return f'<path class="way" d="{path}"/><path class="head" d="{head}"/>'


def box(x: float, y: float, name: str, note: str) -> str:
    label = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    middle = x + BOX / 2
    return (
        f'<rect x="{x}" y="{y}" width="{BOX}" height="{TALL}" rx="6"/>'
        f'<text class="name" x="{middle}" y="{y + 18}" text-anchor="middle">{escape(label)}</text>'
        f'<text x="{middle}" y="{y + 33}" text-anchor="middle">{escape(note)}</text>'
    )


def in_words(parents: Parents) -> str:
    """`pretrain from tokenizer, tokenize; sft from pretrain`."""
    made = ((name, known(parents, name)) for name in parents)
    return "; ".join(f"{name} from {', '.join(of) or 'sources'}" for name, of in made)
