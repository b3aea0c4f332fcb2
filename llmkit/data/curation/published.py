"""What FineWeb's steps removed, as published, to lay beside one's own figures.

Percent of the tokens that a step was shown, of English FineWeb: Penedo et al. 2024,
https://arxiv.org/abs/2406.17557. Steps: base filtering left 36T tokens and MinHash 20T of them
(section 3.4); C4's rules took about 7 % and FineWeb's own about 22 % (section 3.6, where rules of
either step overlap). Rules: ablations of one rule at a time (sections 3.5 and 3.6, table 2); "less
than" bounds are left out. For URLs, extraction, language, Gopher's rules and personal data no
figure is published.
"""

FINEWEB_REMOVED_PERCENT = {
    "minhash": 44.4,
    "c4_quality": 7.0,
    "fineweb_quality": 22.0,
}
FINEWEB_RULE_PERCENT = {
    "c4_curly_bracket": 2.8,
    "fineweb_line_punct_ratio": 10.14,
    "fineweb_char_dup_ratio": 12.47,
    "fineweb_short_line_ratio": 3.73,
}
