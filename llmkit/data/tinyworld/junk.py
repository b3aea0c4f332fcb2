"""What a crawl brings in beside the good pages, each sort caught by a published rule.

boilerplate: navigation without sentences; repetition: one sentence over and over; spam: shouting
with symbols and addresses; other_language: German, French, Spanish; near_duplicate and
exact_duplicate: an earlier page, changed a little or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

from llmkit.data.tinyworld.library import Library, Told, pick

Junk = Literal[
    "boilerplate",
    "repetition",
    "spam",
    "other_language",
    "near_duplicate",
    "exact_duplicate",
]

# sort of junk -> its share of all documents
SHARES: dict[Junk, float] = {
    "boilerplate": 0.04,
    "repetition": 0.03,
    "spam": 0.03,
    "other_language": 0.03,
    "near_duplicate": 0.03,
    "exact_duplicate": 0.04,
}
MENU = (
    "Home",
    "About us",
    "Contact",
    "Log in",
    "Sign up for our letter",
    "Site map",
    "Share this page",
    "Read more",
    "Next page",
    "Privacy policy",
    "Terms of use",
    "This site uses cookies",
    "All rights reserved",
    "Click here",
    "Back to top",
    "Search",
)
SHOUTS = ("BUY NOW", "ONLY TODAY", "FREE GIFT", "BEST PRICE", "CLICK HERE", "WIN BIG", "HURRY UP")
FOREIGN = {
    "de": (
        "In {t} scheint heute die Sonne und die Kinder spielen am Fluss.",
        "Am Morgen gehen viele Leute auf den Markt und kaufen Brot.",
        "Der alte Lehrer erzählt gern von seiner Reise durch das Land.",
        "Im Winter liegt in {t} oft hoher Schnee auf allen Dächern.",
        "Die Bäuerin hat drei Kühe, zwei Ziegen und einen kleinen Hund.",
        "Abends sitzen alle zusammen und singen ein altes Lied.",
        "Der Weg nach {t} führt über eine lange Brücke aus Holz.",
    ),
    "fr": (
        "Le soleil brille sur {t} et les enfants jouent près de la rivière.",
        "Le matin, beaucoup de gens vont au marché pour acheter du pain.",
        "Le vieux maître parle souvent de son voyage dans le pays.",
        "En hiver, la neige couvre tous les toits de {t}.",
        "La fermière possède trois vaches, deux chèvres et un petit chien.",
        "Le soir, tout le monde chante une vieille chanson.",
        "La route vers {t} passe sur un long pont de bois.",
    ),
    "es": (
        "El sol brilla sobre {t} y los niños juegan cerca del río.",
        "Por la mañana mucha gente va al mercado para comprar pan.",
        "El viejo maestro habla a menudo de su viaje por el país.",
        "En invierno la nieve cubre todos los tejados de {t}.",
        "La campesina tiene tres vacas, dos cabras y un perro pequeño.",
        "Por la noche todos cantan una canción muy antigua.",
        "El camino hacia {t} pasa por un largo puente de madera.",
    ),
}


def address(person: Told, town: Told) -> str:
    """A planted e-mail address, in a domain that can never exist (RFC 2606)."""
    return f"{person.name.lower().replace(' ', '.')}@{town.name.lower()}.example"


def boilerplate(rng: Random, shelf: Library) -> tuple[str, str]:
    lines = rng.sample(MENU, 8 + int(rng.random() * 8))
    return "\n".join([pick(rng, shelf.towns).name, *lines]), "en"


def repetition(rng: Random, shelf: Library) -> tuple[str, str]:
    """As one paragraph, or a line each time."""
    sentence = pick(rng, pick(rng, pick(rng, shelf.people).named))
    times = 9 + int(rng.random() * 8)
    return pick(rng, (" ", "\n")).join([sentence] * times), "en"


def spam(rng: Random, shelf: Library) -> tuple[str, str]:
    lines = []
    for _ in range(9 + int(rng.random() * 6)):
        good = pick(rng, shelf.goods)
        lines.append(f"### {pick(rng, SHOUTS)} ### {good.name} ###")
    lines.append(f"mail {address(pick(rng, shelf.people), pick(rng, shelf.towns))}")
    return "\n".join(lines), "en"


def other_language(rng: Random, shelf: Library) -> tuple[str, str]:
    language = pick(rng, tuple(FOREIGN))
    sentences = rng.sample(FOREIGN[language], 6)
    text = " ".join(sentences).replace("{t}", pick(rng, shelf.towns).name)
    return text, language


def copied(rng: Random, shelf: Library, original: str, sort: str) -> str:
    """The original as it is, or for a near duplicate with one sentence added."""
    if sort == "exact_duplicate":
        return original
    return f"{original} This page was copied in the town of {pick(rng, shelf.towns).name}."


FRESH: dict[str, Callable[[Random, Library], tuple[str, str]]] = {
    "boilerplate": boilerplate,
    "repetition": repetition,
    "spam": spam,
    "other_language": other_language,
}
