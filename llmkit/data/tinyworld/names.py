"""The fixed pools that a tinyworld draws its names and values from.

Every name and value is one short word, so that a byte-level BPE vocabulary of about two thousand
entries has whole words for them, and the pools share no word, so that an answer names exactly
what it means.
"""

from __future__ import annotations

WOMEN = tuple(
    "Ada Agnes Alma Amy Anna Beth Carla Celia Clara Cora Dora Edith Ella Elsa Emma Erin Esther Eva "
    "Fay Flora Freya Gina Greta Hanna Heidi Helen Ida Ines Irene Jane Jill Joan Judith Julia Karen "
    "Kate Kira Lara Laura Leah Lena Linda Lisa Lola Lucy Luna Lydia Mabel Maria Marta Maud Maya "
    "Mina Mira Mona Nadia Nancy Nell Nina Nora Olga Paula Petra Polly Rita Rosa Ruth Sally Sara "
    "Selma Sonia Stella Susan Tessa Tina Vera Viola Wanda Yara Zoe".split()
)
MEN = tuple(
    "Aaron Abel Adam Alan Albert Alec Amos Anton Arthur Axel Basil Ben Boris Bruno Carl Caspar "
    "Cyril Daniel David Dennis Dylan Edgar Edwin Eli Emil Eric Ernest Ethan Felix Fred Gavin "
    "George Glen Gregor Gus Hans Harold Harry Henry Herman Hugo Ian Igor Isaac Ivan Jack Jacob "
    "James Jasper Joel John Jonas Joseph Kevin Kurt Leo Louis Luke Magnus Marc Max Nathan Neil "
    "Nils Noah Oliver Omar Oscar Otto Owen Paul Percy Peter Ralph Roger Simon Theo Thomas Toby "
    "Victor".split()
)
LAST = tuple(
    "Adler Ames Avery Barlow Bates Beck Bell Benson Blake Bolton Boyd Brandt Briggs Bryant Burke "
    "Byrne Calder Casey Chase Clarke Cole Conway Corbin Craig Crosby Curtis Dalton Darby Davis "
    "Dawson Dean Denton Dixon Dobson Doyle Duffy Duncan Dunn Dyson Eaton Ellis Emery Evans Farrell "
    "Fenton Ferris Flynn Forbes Foster Fuller Gale Garner Gates Gibbs Gordon Graham Grant Greer "
    "Griffin Hale Hardy Harlow Harris Hayes Hobbs Holt Howard Hudson Hughes Hurst Hyde Irving "
    "Jarvis Jensen Jordan Keller Kemp Kendall Kent Kerr Kirby Knox Lambert Larkin Larsen Lawson "
    "Lennox Lloyd Logan Lowell Lyons Maddox Malone Marlow Maxwell Mercer Merritt Monroe Morgan "
    "Morrow Moss Murphy Nash Newell Nolan Norris Norton Oakes Olsen Osborn Palmer Parrish Payne "
    "Pierce Pratt Quinn Ramsey Randall Reed Reeves Rhodes Ross Rowe Russell Sharp Shaw Slater "
    "Stark Sutton Talbot Tate Tobin Travis Tyler Vance Vaughn Wade Walsh Warner Watts Webb Weston "
    "Whitney Wilcox Wyatt York Young Yates Barker Bishop Lindsay Nixon Porter Preston Sawtell "
    "Tilney".split()
)
TOWN_STARTS = tuple(
    "Oak Stone Winter Summer Green Black White High Low Long Fair Bright Gold Silver Iron North "
    "South East West Elm Ash Rock Red Wolf".split()
)
TOWN_ENDS = tuple(
    "ford field wood bridge haven dale mouth gate well brook port ham bury wick cliff moor".split()
)
MATERIALS = tuple(
    "tin oaken clay woollen silken brass glass straw copper marble leather paper velvet bamboo "
    "silver golden wooden iron linen cotton".split()
)
WARES = tuple(
    "lamp kettle chair bowl coat basket drum clock flute spade mirror ladder blanket cup box hat "
    "rope comb broom table bench bucket barrel pillow curtain scarf ring spoon plate vase whistle "
    "wheel hammer needle tray trunk pan jar fan belt".split()
)
TRADES = tuple(
    "baker miller smith tailor weaver potter carpenter teacher doctor nurse farmer sailor painter "
    "singer dancer writer printer gardener hunter shepherd mason cook judge barber".split()
)
PETS = tuple(
    "cat dog goat parrot rabbit turtle pony goose duck hen ferret hedgehog lizard snail canary "
    "mouse".split()
)
FAVOURITES = tuple(
    "kites songs maps bells stars rain snow soup bread cheese honey apples plums cakes poems "
    "puzzles shells boats candles masks".split()
)
RIVERS = tuple("Arlen Brenn Cador Dorrow Elver Fennel Garr Hollen Isker Lorr Mered Nidd".split())
REGIONS = tuple("Norland Sudland Ostmark Westfold Midmarch Seamark".split())
BIRTH_YEARS = tuple(str(year) for year in range(1930, 1990))
FOUNDING_YEARS = tuple(str(year) for year in range(1100, 1800))
PRICES = tuple(str(coins) for coins in range(2, 100))
