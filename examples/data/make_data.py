#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write train.jsonl.gz and dev.jsonl.gz, the demonstration data of dro, from the tables in facts/.

Every entity of the tables becomes one short document. A question asks for something that needs two or three of
these documents; the other candidates are near misses and unrelated documents, chosen so that none of them states
what the question needs. Standard library only, one fixed seed: the same tables give the same lines.

    python3 make_data.py            write both files beside this script
    python3 make_data.py --check    verify the files instead; exit status 1 and a list of what fails
"""

import argparse
import collections
import gzip
import hashlib
import itertools
import json
import math
import pathlib
import random
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20240607
SOURCE = "dro demonstration data"
DEV_SHARE = 30  # percent of the start entities
MAX_BYTES = 900 * 1024
MIN_CANDIDATES, MAX_CANDIDATES = 10, 12

# ---------------------------------------------------------------------------------------------------------------
# Facts

ARTICLE_COUNTRIES = {"United Kingdom", "United States", "Netherlands", "Czech Republic"}
ARTICLE_NAMES = {
    "Uffizi", "Louvre", "Czartoryski Museum",
    "Hermitage Museum", "Belvedere", "Zwinger", "Museum Ludwig", "Kelvingrove Art Gallery",
    "Elbphilharmonie", "Deutsches Museum", "Egyptian Museum", "Belém Tower", "Chain Bridge", "Semperoper",
    "Smithsonian Institution", "Victoria Memorial", "Gewandhaus", "Rijksmuseum", "Prado Museum", "Zugspitze",
    "Grossglockner", "Matterhorn", "Eiger", "Dufourspitze", "Sydney Opera House", "Louvre Pyramid",
    "Seagram Building", "Gateway Arch", "Cathedral of Brasília", "Jewish Museum Berlin", "Heydar Aliyev Center",
    "Millau Viaduct", "Bauhaus Building", "Bauhaus University", "Hubble Space Telescope", "Kepler space telescope",
    "Planck space observatory", "Herschel Space Observatory", "Cassini orbiter", "Huygens lander",
    "Galileo orbiter", "Chandra X-ray Observatory", "Fermi Gamma-ray Space Telescope", "Spitzer Space Telescope",
    "Compton Gamma Ray Observatory", "Einstein Observatory", "Parker Solar Probe", "Ford Motor Company",
    "Tata Group",
}
ALIASES = {
    "United Kingdom": ["the UK", "Great Britain", "Britain"],
    "United States": ["the USA", "the US", "United States of America"],
    "Czech Republic": ["Czechia"],
    "New York City": ["New York"],
    "Washington, D.C.": ["Washington"],
    "Toledo, Ohio": ["Toledo"],
    "Florida, Missouri": ["Florida"],
    "Indiana, Pennsylvania": ["Indiana"],
    "Aoraki / Mount Cook": ["Mount Cook", "Aoraki"],
    "Mount Elbrus": ["Elbrus"],
    "Mount Everest": ["Everest"],
    "Mount Fuji": ["Fuji"],
    "Kolkata": ["Calcutta"],
    "Mumbai": ["Bombay"],
    "Kyiv": ["Kiev"],
    "Gdańsk": ["Danzig"],
    "Wolfgang Amadeus Mozart": ["Mozart"],
    "Ludwig van Beethoven": ["Beethoven"],
    "Johann Strauss II": ["Johann Strauss"],
    "pound sterling": ["pound"],
    "Atlantic Ocean": ["Atlantic"],
    "Mediterranean Sea": ["Mediterranean"],
}
MONTHS = ("January February March April May June July August September October November December").split()


class Entity:
    """One row of a table: `kind` is the table (for works, the kind of work), `fields` the columns."""

    def __init__(self, kind, fields):
        self.kind, self.fields = kind, fields
        self.name = fields.get("name") or fields["title"]
        self.text = ""
        self.words = []  # tokens of title and text
        self.links = []  # names of other entities that the text mentions

    def __getattr__(self, key):
        try:
            return self.fields[key]
        except KeyError:
            raise AttributeError(key) from None

    @property
    def group(self):
        """What counts as "of the same kind" for distractors: persons are told apart by field."""
        return self.fields["field"] if self.kind == "person" else self.kind


def read_table(name):
    lines = (HERE / "facts" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            sys.exit(f"facts/{name}.tsv:{number}: {len(cells)} cells, expected {len(header)}")
        yield {key: None if cell == "-" else cell for key, cell in zip(header, cells)}


def load_entities():
    """All entities by name, in the order of the tables."""
    entities = {}
    for table, kind in (("people", "person"), ("works", None), ("bands", "band"), ("places", "place"),
                        ("cities", "city"), ("rivers", "river"), ("countries", "country"),
                        ("mountains", "mountain")):
        for row in read_table(table):
            entity = Entity(kind or row["kind"], row)
            if entity.name in entities:
                sys.exit(f"facts/{table}.tsv: duplicate name {entity.name}")
            if kind == "person":
                row["moved"] = row["country"].startswith("~")  # the state of that time was another one
                row["country"] = row["country"].lstrip("~")
            entities[entity.name] = entity
    return entities


# ---------------------------------------------------------------------------------------------------------------
# Text


def digest(*parts):
    """A number that depends on the parts alone (Python's own hash changes from run to run)."""
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:8], "big")


def pick(options, *key):
    return options[digest(*key) % len(options)]


def a(phrase):
    return ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase


def the(name):
    """The name as it stands inside a sentence."""
    return "the " + name if name in ARTICLE_NAMES or name in ARTICLE_COUNTRIES else name


def capital(sentence):
    return sentence[0].upper() + sentence[1:]


def date(iso):
    year, *rest = iso.split("-")
    return f"{int(rest[1])} {MONTHS[int(rest[0]) - 1]} {year}" if rest else year


def on_date(iso):
    return ("on " if "-" in iso else "in ") + date(iso)


def number(value):
    return f"{int(value):,}"


def person_text(e):
    place = f"{e.city}, " + ("in what is now " + the(e.country) if e.moved else e.country)
    he, his = ("She", "Her") if e.sex == "f" else ("He", "His")
    first, _, second = e.note.partition(". ")
    first, when, what = first.rstrip(".") + ".", on_date(e.born), e.description
    second = " " + second if second else ""
    if e.died:
        return pick([
            f"{e.name} (born {when[3:]} in {place}) was {a(what)}. {first}{second} {he} died in {e.death_place} "
            f"in {e.died}.",
            f"Born {when} in {place}, {e.name} was {a(what)}. {first}{second} {his} death came in {e.died} in "
            f"{e.death_place}.",
            f"{e.name} was {a(what)}. {he} was born {when} in {place}, and died in {e.died} in {e.death_place}. "
            f"{first}{second}",
            f"The {what} {e.name} was born {when} in {place}. {first}{second} In {e.died} {he.lower()} died in "
            f"{e.death_place}.",
            f"{e.name}, {a(what)}, was born {when} in {place}. {first} In {e.died} {he.lower()} died in "
            f"{e.death_place}.{second}",
        ], "person", e.name)
    return pick([
        f"{e.name}, {a(what)}, was born {when} in {place}. {first}{second}",
        f"Born {when} in {place}, {e.name} became known as {a(what)}. {first}{second}",
        f"The {what} {e.name} was born {when} in {place}. {first}{second}",
        f"{e.name} (born {when[3:]} in {place}) is {a(what)}. {first}{second}",
    ], "person", e.name)


WORK_TEMPLATES = {
    "film": ["{T} is a {year} {what} directed by {creator}. {note}",
             "Directed by {creator}, {T} is {a_what} that came out in {year}. {note}",
             "{T} is {a_what} from {year}. {note} The director was {creator}.",
             "{T} is {a_what} by {creator}. It was first shown in {year}. {note}"],
    "book": ["{T} is {a_what} by {creator} that appeared in {year}. {note}",
             "{T}, {a_what} published in {year}, was written by {creator}. {note}",
             "{T} is {a_what}. {note} {creator} published it in {year}.",
             "Written by {creator}, {T} is {a_what} of {year}. {note}"],
    "music": ["{T} is {a_what} by {creator}, completed or first heard in {year}. {note}",
              "{T} is {a_what}. {note} It was composed by {creator} and dates from {year}.",
              "The {what} {T} of {year} was composed by {creator}. {note}"],
    "painting": ["{T} is {a_what} by {creator}. It dates from about {year}. {note}",
                 "{T} is {a_what} that {creator} made around {year}. {note}",
                 "{T} is {a_what}. {note} {creator} created it in or about {year}."],
    "unit": ["The {bare} is the SI unit of {what}. It is named after {creator} and received this name in {year}. "
             "{note}",
             "The {bare} is the unit of {what} in the International System. {note} Its name, in use since {year}, "
             "honours {creator}.",
             "Named after {creator}, the {bare} is the SI unit of {what}. The name was adopted in {year}. {note}"],
    "element": ["{T} is a chemical element, {a_what}. {creator} discovered it in {year}. {note}",
                "{T} is {a_what} and a chemical element. {note} It was discovered in {year} by {creator}.",
                "The chemical element {lower} was discovered by {creator} in {year}. It is {a_what}. {note}"],
    "craft": ["{T} is {a_what} that was launched in {year}. {note} It is named after {creator}.",
              "{T} is {a_what} named after {creator}. It left the Earth in {year}. {note}",
              "Launched in {year}, {t} is {a_what}. It bears the name of {creator}. {note}"],
    "building": ["{T} is {a_what} designed by {creator} and completed in {year}. {note}",
                 "{T} is {a_what}. {note} The architect was {creator}, and the work was finished in {year}.",
                 "{creator} was the architect of {t}, {a_what} completed in {year}. {note}"],
    "company": ["{T} is {a_what}. {creator} founded the business in {year}. {note}",
                "{T} is {a_what} founded in {year} by {creator}. {note}",
                "{T} is {a_what}. {note} It goes back to {creator}, who founded it in {year}."],
    "album": ["{T} is {a_what} by {creator}, released in {year}. {note}",
              "{T} is {a_what} from {year}. {note} It was recorded by {creator}.",
              "The {what} {T} was released by {creator} in {year}. {note}"],
}


def bare(name):
    """A work's name without the remark in brackets; units and elements are common nouns."""
    return name.partition(" (")[0]


def work_text(e):
    template = pick(WORK_TEMPLATES[e.kind], e.kind, e.name)
    return template.format(T=capital(the(bare(e.name))), t=the(e.name), bare=bare(e.name).lower(),
                           lower=e.name.lower(), a_what=a(e.what), what=e.what, year=e.year, creator=e.creator,
                           note=e.note)


def band_text(e):
    return pick([f"{e.name} is {a(e.kind_of)} formed in {e.year} in {e.city}. {e.note}",
                 f"{e.name} is {a(e.kind_of)}. It was founded in {e.city} in {e.year}. {e.note}",
                 f"{e.name} is {a(e.kind_of)} that came together in {e.city} in {e.year}. {e.note}"],
                "band", e.name)


def place_text(e):
    name = capital(the(e.name))
    return pick([f"{name} is {a(e.kind_of)} in {e.city} that dates from {e.year}. {e.note}",
                 f"{name} in {e.city} is {a(e.kind_of)}. {e.note} It dates from {e.year}.",
                 f"{name} is {a(e.kind_of)}. It stands in {e.city} and dates from {e.year}. {e.note}"],
                "place", e.name)


def city_text(e):
    if not e.river:
        return f"{e.name} is a city in {the(e.country)}. {e.note}"
    return pick([f"{e.name} is a city on the {e.river} in {the(e.country)}. {e.note}",
                 f"{e.name} lies on the {e.river} in {the(e.country)}. {e.note}",
                 f"{e.name} is a city in {the(e.country)}. {e.note} The {e.river} flows through it.",
                 f"{e.name}, which stands on the {e.river}, is a city in {the(e.country)}. {e.note}"],
                "city", e.name)


def the_mouth(name):
    return name if name.endswith("Bay") else "the " + name


def river_text(e):
    length, mouth = number(e.length) + " kilometres", the_mouth(e.mouth)
    return pick([f"The {e.name} is a river about {length} long. It comes from {e.source} and ends in {mouth}. "
                 f"{e.note}",
                 f"The {e.name} is a river. From {e.source} it runs about {length} to {mouth}. {e.note}",
                 f"The river {e.name} comes from {e.source}. {e.note} After about {length} it reaches {mouth}."],
                "river", e.name)


def country_text(e):
    name, parts = capital(the(e.name)), []
    if e.capital:
        parts.append(pick([f"{e.capital} is the capital of {the(e.name)}.",
                           f"{name} is a state with {e.capital} as its capital.",
                           f"The capital of {the(e.name)} is {e.capital}."], "capital", e.name))
    else:
        parts.append(f"{name} is a state in Europe.")
    if e.mountain:
        parts.append(pick([f"Its highest mountain is {the(e.mountain)}.",
                           f"The highest point of the country is {the(e.mountain)}."], "mountain", e.name))
    if e.currency:
        parts.append(f"People pay with the {e.currency}.")
    parts.insert(1 + digest("note", e.name) % len(parts), e.note)
    return " ".join(parts)


def mountain_text(e):
    name, height = capital(the(e.name)), number(e.height) + " metres"
    belongs = f"{name} belongs to {e.range}" if not e.range.startswith("a") else f"{name} is part of {e.range}"
    return pick([f"{belongs} and is {height} high. It was first climbed in {e.year} by {e.climber}. {e.note}",
                 f"{belongs}. {e.note} {capital(e.climber)} made the first ascent in {e.year}. Its height is "
                 f"{height}.",
                 f"With a height of {height}, {the(e.name)} rises in {e.range}. The first to reach the top, in "
                 f"{e.year}, {'was' if is_single(e.climber) else 'were'} {e.climber}. {e.note}"],
                "mountain", e.name)


def is_single(climbers):
    return climbers.startswith("a ") or not re.search(r",| and |^two|^members", climbers)


RENDER = {"person": person_text, "band": band_text, "place": place_text, "city": city_text, "river": river_text,
          "country": country_text, "mountain": mountain_text}


def mentions(text, name):
    """Whether `name` stands in `text` as whole words, upper and lower case told apart."""
    return name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def normalised(text):
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "


def contains(text, answers):
    """Whether one of the answers stands in the text as whole words, case and punctuation aside."""
    haystack = normalised(text)
    return any(normalised(answer) in haystack for answer in answers)


def render_documents(entities):
    for e in entities.values():
        if e.kind in ("band", "place"):
            e.fields["kind_of"] = e.fields["kind"]
        e.text = RENDER.get(e.kind, work_text)(e)
        e.words = re.findall(r"\w+", (e.name + " " + e.text).lower())
    for e in entities.values():
        e.links = [name for name in entities if name != e.name and mentions(e.text, name)]


# ---------------------------------------------------------------------------------------------------------------
# Questions


class Draft:
    """A question before it gets its distractors.

    gold:    entities whose documents are needed, in the order of the reasoning
    chain:   True if each document leads to the next one, so that only the first is named in the question
    final:   (last entity, answer), which train and dev must not share; None for comparisons
    read:    what the asked relation gives for another entity of the last one's group, for the shortcut baseline
    rejects: whether a candidate would allow a second answer
    key:     the entities that decide the side (train or dev)
    """

    def __init__(self, shape, text, answers, gold, key, chain=True, final=None, read=None, rejects=None):
        self.shape, self.text, self.answers, self.gold = shape, text, answers, gold
        self.key, self.chain, self.final = key, chain, final
        self.read, self.rejects = read or (lambda e: None), rejects or (lambda e: False)

    @property
    def hops(self):
        return len(self.gold)


def answers_for(name):
    aliases = list(ALIASES.get(name, ()))
    return [name] + aliases


def river_answers(name):
    return [name] if re.search("River|R[ií]o", name) else [name, f"{name} River", f"River {name}"]


def date_answers(iso):
    year, month, day = iso.split("-")
    return [date(iso), f"{MONTHS[int(month) - 1]} {int(day)}, {year}"]


def quantity_answers(value, unit, short):
    text = number(value)
    return list(dict.fromkeys([f"{text} {unit}", f"{text} {short}", f"{value} {unit}", text]))


# How a question names the maker of a work, by kind: {w} is the work.
MAKER = {
    "film": ["the director of {w}", "the person who directed {w}", "the director of the film {w}"],
    "book": ["the author of {w}", "the writer of {w}", "the author who wrote {w}"],
    "music": ["the composer of {w}", "the composer who wrote {w}"],
    "painting": ["the artist who made {w}", "the painter of {w}", "the creator of {w}"],
    "unit": ["the scientist after whom the SI unit of {w} is named", "the person whose name the SI unit of {w} bears"],
    "element": ["the discoverer of {w}", "the chemist who discovered the element {w}"],
    "craft": ["the person after whom {w} is named", "the namesake of {w}"],
    "building": ["the architect of {w}", "the architect who designed {w}"],
    "company": ["the founder of {w}", "the person who founded {w}"],
}


def work_mention(work):
    if work.asked_as:
        return work.asked_as
    if work.kind == "unit":
        return work.what
    if work.kind == "element":
        return work.name.lower()
    return the(work.name)


def maker(work, *key):
    return pick(MAKER[work.kind], "maker", work.name, *key).format(w=work_mention(work))


# Relations of a person: name, question with {x} for the person, value, answers.
PERSON_RELATIONS = [
    ("birth city", ["In which town or city was {x} born?", "Where was {x} born?", "What is the birthplace of {x}?"],
     lambda p: p.city, answers_for),
    ("birth country", ["In which present-day country was {x} born?",
                       "In which present-day country does the birthplace of {x} lie?"],
     lambda p: p.country, answers_for),
    ("birth date", ["On what date was {x} born?", "What is the date of birth of {x}?"],
     lambda p: p.born if "-" in p.born else None, date_answers),
    ("death year", ["In which year did {x} die?", "What was the year of death of {x}?"],
     lambda p: p.died, lambda v: [v]),
    ("death place", ["In which place did {x} die?", "Where did {x} die?"],
     lambda p: p.death_place if p.death_place != "the Mediterranean Sea" else None, answers_for),
]
CITY_RELATIONS = [
    ("river", ["On which river does {x} stand?", "Which river flows through {x}?"], lambda c: c.river, river_answers),
]
COUNTRY_RELATIONS = [
    ("capital", ["What is the capital of {x}?", "Which city is the capital of {x}?"], lambda c: c.capital,
     answers_for),
    ("mountain", ["What is the highest mountain of {x}?", "Which mountain is the highest point of {x}?"],
     lambda c: c.mountain, answers_for),
    ("currency", ["With which currency do people pay in {x}?", "What is the currency of {x}?"],
     lambda c: c.currency, answers_for),
]
RIVER_RELATIONS = [
    ("mouth", ["Into which body of water does {x} flow?", "Where does {x} end?"], lambda r: r.mouth, answers_for),
    ("length", ["About how long is {x}?", "How many kilometres long is {x}?"], lambda r: r.length,
     lambda v: quantity_answers(v, "kilometres", "km")),
]
MOUNTAIN_RELATIONS = [
    ("ascent", ["In which year was {x} first climbed?", "When was the first ascent of {x}?"], lambda m: m.year,
     lambda v: [v]),
    ("height", ["How high is {x}?", "What is the height of {x}?"], lambda m: m.height,
     lambda v: quantity_answers(v, "metres", "m")),
]
BAND_RELATIONS = [
    ("band city", ["In which city was {x} formed?", "Where did {x} come together?"], lambda b: b.city, answers_for),
    ("band year", ["In which year was {x} founded?", "When was {x} formed?"], lambda b: b.year, lambda v: [v]),
]


def ask(shape, relations, gold, x, key):
    """One draft for each relation of the last gold entity that has a value; x is how the question calls it."""
    last = gold[-1]
    for name, templates, value, answers in relations:
        found = value(last)
        if found:
            text = capital(pick(templates, name, shape, gold[0].name).format(x=x))
            yield Draft(f"{shape}: {name}", text, answers(found), gold, key, final=(last.name, found), read=value)


def chain_drafts(entities):
    of = lambda *kinds: [e for e in entities.values() if e.kind in kinds]
    get = entities.get
    for work in of(*MAKER):
        person = get(work.creator)
        who, key = maker(work), [person.name]
        yield from ask("work", PERSON_RELATIONS, [work, person], who, key)
        city, country = get(person.city), get(person.country)
        if city and city.kind == "city":
            x = pick(["the city in which {} was born", "the birthplace of {}"], "city", work.name).format(who)
            yield from ask("work", CITY_RELATIONS, [work, person, city], x, key)
        if country:
            yield from ask("work", COUNTRY_RELATIONS, [work, person, country],
                           f"the country in which {maker(work, 'country')} was born", key)
    for album in of("album"):
        band, key = get(album.creator), [album.creator]
        who = pick(["the band that recorded {}", "the band behind the album {}"], album.name).format(album.name)
        yield from ask("album", BAND_RELATIONS, [album, band], who, key)
        if get(band.city):
            yield from ask("album", CITY_RELATIONS, [album, band, get(band.city)],
                           f"the city in which {who} was formed", key)
    for place in of("place"):
        city, key = get(place.city), [place.city]
        x = pick(["the city in which {} stands", "the city that is home to {}"], place.name).format(the(place.name))
        yield from ask("place", CITY_RELATIONS, [place, city], x, key)
        yield from ask("place", [("country", ["In which country is {x}?"], lambda c: c.country, answers_for)],
                       [place, city], x, key)
        river = get(city.river) if city.river else None
        if river:
            yield from ask("place", RIVER_RELATIONS, [place, city, river], f"the river in {x}", key)
    for person in of("person"):
        city, country, key = get(person.city), get(person.country), [person.name]
        if city and city.kind == "city":
            yield from ask("person", CITY_RELATIONS, [person, city], f"the city in which {person.name} was born", key)
            river = get(city.river) if city.river else None
            if river:
                yield from ask("person", RIVER_RELATIONS, [person, city, river],
                               f"the river at the birthplace of {person.name}", key)
        if country:
            yield from ask("person", COUNTRY_RELATIONS, [person, country],
                           f"the country in which {person.name} was born", key)
    for city in of("city"):
        river = get(city.river) if city.river else None
        if river:
            x = pick(["the river that flows through {}", "the river on which {} stands"], city.name).format(city.name)
            yield from ask("city", RIVER_RELATIONS, [city, river], x, [city.name])
    for country in of("country"):
        mountain = get(country.mountain) if country.mountain else None
        if mountain:
            yield from ask("country", MOUNTAIN_RELATIONS, [country, mountain],
                           f"the highest mountain of {the(country.name)}", [country.name])


def intersection_drafts(entities):
    """Two conditions met by one entity: of a field, and born in the place or the year in which another one was."""
    people = [e for e in entities.values() if e.kind == "person"]
    makers = {}
    for work in entities.values():
        if work.kind in MAKER:
            makers.setdefault(work.creator, []).append(work)
    for first, second in itertools.permutations(people, 2):
        conditions = (("city", lambda p: p.city, "in the same city as"),
                      ("year", lambda p: p.born[:4], "in the same year as"))
        for name, value, words in conditions:
            if value(first) != value(second):
                continue

            def also(e, first=first, second=second, value=value):
                """Another one who fits: of the field, sharing the place or the year."""
                return e.kind == "person" and e.field == second.field and value(e) == value(second)

            if also(first):
                continue  # both are of the field
            text = f"Which {second.field} was born {words} "
            yield Draft(f"intersection: {name}", text + f"the {first.field} {first.name}?",
                        answers_for(second.name), [first, second], [first.name], final=(second.name, value(first)),
                        rejects=also)
            for work in makers.get(first.name, ()):
                yield Draft(f"work intersection: {name}", text + maker(work, name) + "?", answers_for(second.name),
                            [work, first, second], [first.name], final=(second.name, value(first)), rejects=also)
    cities = [e for e in entities.values() if e.kind == "city" and e.river]
    for first, second in itertools.permutations(cities, 2):
        if first.river == second.river:
            text = pick(["Which other city stands on the same river as {}?",
                         "Which other city lies on the river that flows through {}?"], first.name).format(first.name)
            yield Draft("intersection: river", text, answers_for(second.name), [first, second], [first.name],
                        final=(second.name, first.river),
                        rejects=lambda e, river=first.river: e.kind == "city" and e.river == river)


def ordered_pairs(items, salt):
    """Every unordered pair once, its order decided by a hash."""
    for x, y in itertools.combinations(items, 2):
        yield (x, y) if digest(salt, x.name, y.name) % 2 else (y, x)


def comparison_drafts(entities):
    """Which of two, and yes or no. The question names both; with a work, one of them only through the work."""
    of = lambda kind: [e for e in entities.values() if e.kind == kind]
    year = lambda p: int(p.born[:4])

    def which(shape, x, y, better_x, text, gold=None, key=None, names=None):
        best = x if better_x else y
        nx, ny = names or (the(x.name), the(y.name))
        return Draft(f"comparison: {shape}", text.format(x=nx, y=ny), answers_for(best.name), gold or [x, y],
                     key or [x.name, y.name], chain=False)

    def yes_no(shape, text, truth, gold, key):
        return Draft(f"yes/no: {shape}", text, ["yes" if truth else "no"], gold, key, chain=False)

    makers = {}
    for work in entities.values():
        if work.kind in MAKER and not work.asked_as and work.kind != "unit":
            makers.setdefault(work.creator, []).append(work)
    for x, y in ordered_pairs(of("person"), "persons"):
        if abs(year(x) - year(y)) > 60 or digest("keep", x.name, y.name) % 4:
            continue  # a quarter of the pairs is more than enough
        key = [x.name, y.name]
        if year(x) != year(y):
            if digest("later", x.name, y.name) % 2:
                yield which("born", x, y, year(x) < year(y), "Who was born first, {x} or {y}?")
            else:
                yield which("born later", x, y, year(x) > year(y), "Who was born later, {x} or {y}?")
            for work in makers.get(y.name, ())[:1]:
                swap = digest("swap", x.name, y.name) % 2
                names = (x.name, maker(work, "first"))
                yield which("maker born", x, y, year(x) < year(y),
                            "Who was born first, {y} or {x}?" if swap else "Who was born first, {x} or {y}?",
                            gold=[work, y, x], key=key, names=names)
            yield yes_no("born before", f"Was {x.name} born before {y.name}?", year(x) < year(y), [x, y], key)
        same = x.country == y.country
        yield yes_no("same country", f"Were {x.name} and {y.name} born in the same present-day country?", same,
                     [x, y], key)
        for work in makers.get(y.name, ())[:1]:
            yield yes_no("maker country", f"Was {maker(work, 'yes')} born in the same present-day country as "
                         f"{x.name}?", same, [work, y, x], key)
    for x, y in ordered_pairs(of("river"), "rivers"):
        lx, ly = int(x.length), int(y.length)
        if max(lx, ly) > 1.2 * min(lx, ly):
            if digest("short", x.name, y.name) % 2:
                yield which("longer river", x, y, lx > ly, "Which river is longer, the {x} or the {y}?")
            else:
                yield which("shorter river", x, y, lx < ly, "Which river is shorter, the {x} or the {y}?")
    for x, y in ordered_pairs(of("mountain"), "mountains"):
        if digest("first", x.name, y.name) % 2:
            yield which("higher", x, y, int(x.height) > int(y.height), "Which mountain is higher, {x} or {y}?")
        else:
            yield which("climbed", x, y, int(x.year) < int(y.year), "Which mountain was climbed first, {x} or {y}?")
    for kind, words in (("film", "Which film came out first, {x} or {y}?"),
                        ("book", "Which book was published first, {x} or {y}?"),
                        ("building", "Which building was completed earlier, {x} or {y}?"),
                        ("element", "Which element was discovered earlier, {x} or {y}?"),
                        ("place", "Which dates from an earlier year, {x} or {y}?"),
                        ("company", "Which company was founded first, {x} or {y}?"),
                        ("album", "Which album was released earlier, {x} or {y}?")):
        for x, y in ordered_pairs(of(kind), kind):
            if x.year != y.year:
                owner = lambda e: e.creator if "creator" in e.fields else e.city
                names = (x.name.lower(), y.name.lower()) if kind == "element" else None
                yield which(kind, x, y, int(x.year) < int(y.year), words, key=[owner(x), owner(y)], names=names)
                if kind == "film":
                    yield yes_no("same director", f"Were {x.name} and {y.name} directed by the same person?",
                                 x.creator == y.creator, [x, y], [owner(x), owner(y)])
    cities = [e for e in of("city") if e.river]
    for x, y in ordered_pairs(cities, "cities"):
        same = x.river == y.river
        yield yes_no("same river", f"Do {x.name} and {y.name} stand on the same river?", same, [x, y],
                     [x.name, y.name])
        for place in of("place"):
            if place.city == y.name:
                yield yes_no("place river", f"Does the city that is home to {the(place.name)} stand on the same "
                             f"river as {x.name}?", same, [place, y, x], [y.name, x.name])


def sound(draft):
    """Whether the gold documents give the answer together and none of them, nor the question, gives it alone."""
    texts = [e.name + ". " + e.text for e in draft.gold]
    if any(contains(draft.text, [e.name.split()[-1] if e.kind == "person" else e.name]) for e in hidden(draft)):
        return False
    if not draft.chain:
        return all(not mentions(t, e.name) for t, self_ in zip(texts, draft.gold) for e in draft.gold
                   if e is not self_ and (self_, e) not in visible_links(draft))
    links = zip(draft.gold, draft.gold[1:])
    if draft.shape.find("intersection") < 0:
        if any(not mentions(x.text, y.name) for x, y in links):
            return False
    elif draft.hops == 3 and not mentions(draft.gold[0].text, draft.gold[1].name):
        return False
    return (contains(texts[-1], draft.answers[:1]) and not contains(draft.text, draft.answers)
            and not any(contains(t, draft.answers) for t in texts[:-1])
            and not any(mentions(texts[-1], bare(e.name)) for e in draft.gold[:-1]))


def hidden(draft):
    """Gold entities that the question must not name."""
    if draft.chain:
        return draft.gold[1:]
    return draft.gold[1:2] if draft.hops == 3 else []


def visible_links(draft):
    """Pairs of gold entities of which the first names the second on purpose."""
    return {(draft.gold[0], draft.gold[1])} if draft.hops == 3 and not draft.chain else set()


def spoils(draft, e):
    """Whether candidate e, not gold, could give the answer, or another one, without the gold documents."""
    if e in draft.gold or draft.rejects(e):
        return True
    text = e.name + ". " + e.text
    named = [g for g in draft.gold if mentions(text, bare(g.name))]
    if not draft.chain:
        return len(named) > 1
    return contains(text, draft.answers) and any(g.name not in draft.answers for g in named)


# ---------------------------------------------------------------------------------------------------------------
# Candidates


class Bm25:
    """BM25 (k1 = 1.2, b = 0.75) over a list of token lists."""

    def __init__(self, documents):
        self.counts = [collections.Counter(words) for words in documents]
        self.lengths = [len(words) for words in documents]
        self.mean = sum(self.lengths) / len(self.lengths)
        n, seen = len(documents), collections.Counter(w for c in self.counts for w in c)
        self.idf = {w: math.log(1 + (n - f + 0.5) / (f + 0.5)) for w, f in seen.items()}

    def ranking(self, query):
        """Document numbers, best first, ties in the given order."""
        words = re.findall(r"\w+", query.lower())
        scores = []
        for counts, length in zip(self.counts, self.lengths):
            norm = 1.2 * (0.25 + 0.75 * length / self.mean)
            scores.append(sum(self.idf[w] * counts[w] * 2.2 / (counts[w] + norm) for w in words if w in counts))
        return sorted(range(len(scores)), key=lambda i: -scores[i])


def candidates(draft, pool, entities, index, rng):
    """The gold entities and their distractors, shuffled."""
    free = {e.name: e for e in pool if not spoils(draft, e)}
    n = rng.randint(MIN_CANDIDATES, MAX_CANDIDATES)
    chosen = []

    def add(names, count):
        names = [name for name in names if name in free]
        for name in names[:count]:
            if len(draft.gold) + len(chosen) < n:
                chosen.append(free.pop(name))

    def shuffled(names):
        names = sorted(set(names))
        rng.shuffle(names)
        return names

    linked = [name for g in draft.gold for name in g.links]
    linking = [e.name for e in pool if any(g.name in e.links for g in draft.gold)]
    lexical = [pool[i].name for i in index.ranking(draft.text)]
    add(shuffled(linked), 2)
    add(lexical, 3)
    add(shuffled(linking), 1)
    for g in draft.gold[::-1]:
        add(shuffled(e.name for e in pool if e.group == g.group), 1)
    add(shuffled(entities), n)
    documents = draft.gold + chosen
    rng.shuffle(documents)
    return documents


# Questions a side: (prefix of the shape, hops, train, dev).
QUOTAS = [
    ("work:", 2, 110, 40), ("album:", 2, 12, 5), ("place:", 2, 16, 6), ("person:", 2, 40, 16), ("city:", 2, 16, 6),
    ("country:", 2, 14, 5), ("intersection:", 2, 34, 12),
    ("comparison:", 2, 46, 18), ("yes/no:", 2, 44, 16),
    ("work:", 3, 62, 24), ("album:", 3, 2, 1), ("place:", 3, 12, 5), ("person:", 3, 14, 5),
    ("work intersection:", 3, 22, 9), ("comparison:", 3, 18, 8), ("yes/no:", 3, 18, 8),
]


def side_of(key):
    return "dev" if digest("side", key) % 100 < DEV_SHARE else "train"


def choose(drafts, rng):
    """Fill the quotas: few questions a start, few a final pair, both answers of a two-way choice equally often."""
    sides, used_text, dev_finals = {}, set(), set()
    for side in ("dev", "train"):
        picked, starts, finals, totals = [], collections.Counter(), collections.Counter(), collections.Counter()
        per_answer = 12 if side == "train" else 6

        def fits(d):
            return (d.text not in used_text and starts[d.gold[0].name] < 3 and finals[d.final] < 2
                    and not (side == "train" and d.final in dev_finals)
                    and (not d.chain or totals[d.answers[0]] < per_answer))

        for prefix, hops, train, dev in QUOTAS:
            wanted = dev if side == "dev" else train
            pool = [d for d in drafts if d.shape.startswith(prefix) and d.hops == hops
                    and all(side_of(k) == side for k in d.key)]
            rng.shuffle(pool)
            queues, ways = collections.defaultdict(list), collections.Counter()
            for d in pool:
                queues[d.shape, balance_class(d)].append(d)
                ways[balance_class(d)] = 0
            taken, before = 0, -1
            while before < taken < wanted:
                before = taken
                for shape, way in sorted(queues):
                    queue = queues[shape, way]
                    while queue and taken < wanted and ways[way] == min(ways.values()):
                        d = queue.pop()
                        if not fits(d):
                            continue
                        picked.append(d)
                        taken += 1
                        ways[way] += 1
                        used_text.add(d.text)
                        for g in d.gold[:1] if d.chain else d.gold:
                            starts[g.name] += 1
                        finals[d.final] += d.final is not None  # comparisons have no final pair
                        totals[d.answers[0]] += d.chain
                        break
            if taken < wanted:
                print(f"note: {side} has {taken} of {wanted} questions of shape {prefix} {hops}", file=sys.stderr)
        if side == "dev":
            dev_finals = {d.final for d in picked if d.final}
        sides[side] = picked
    return sides


def balance_class(draft):
    """For a two-way choice which way it goes, so that both can be taken equally often."""
    if draft.shape.startswith("yes/no"):
        return draft.answers[0]
    if draft.shape.startswith("comparison"):
        return "first" if first_named_wins(draft) else "second"
    return ""


def first_named_wins(draft):
    """Whether the answer is the option that the question names first."""
    options = draft.text.partition(", ")[2].rstrip("?").split(" or ")
    named = [normalised(draft.answers[0]) in normalised(option) for option in options]
    return named[0] if any(named) else not mentions(options[0], other_option(draft))


def other_option(draft):
    """The name in a comparison of the option that is named outright and is not the answer."""
    return next(e.name for e in draft.gold[::-1] if e.name != draft.answers[0])


def build():
    """Entities and, for train and dev, a list of (draft, candidates, record)."""
    entities = load_entities()
    render_documents(entities)
    pool = list(entities.values())
    index = Bm25([e.words for e in pool])
    drafts = [d for d in itertools.chain(chain_drafts(entities), intersection_drafts(entities),
                                         comparison_drafts(entities)) if sound(d)]
    rng = random.Random(SEED)
    sides = {}
    for side, picked in choose(drafts, rng).items():
        rng.shuffle(picked)
        rows = []
        for number_, draft in enumerate(picked, start=1):
            docs = candidates(draft, pool, entities, index, rng)
            rows.append((draft, docs, {
                "id": f"demo-{side}-{number_:03d}",
                "question": draft.text,
                "answers": draft.answers,
                "documents": [{"title": e.name, "text": e.text} for e in docs],
                "supporting": sorted(docs.index(g) for g in draft.gold),
                "gold_missing": 0,
                "source": SOURCE,
            }))
        sides[side] = rows
    return entities, sides


def lines(rows):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for _, _, record in rows).encode()


def write(sides):
    for side, rows in sides.items():
        with open(HERE / f"{side}.jsonl.gz", "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as packed:
                packed.write(lines(rows))
        print(f"{side}.jsonl.gz: {len(rows)} questions")


# ---------------------------------------------------------------------------------------------------------------
# Check


def check(entities, sides):
    """Verify the files beside this script; returns the list of what fails and prints the statistics."""
    failures = []

    def require(condition, message):
        if not condition:
            failures.append(message)

    loaded = {}
    for side, least in (("train", 420), ("dev", 160)):
        path = HERE / f"{side}.jsonl.gz"
        if not path.is_file():
            return [f"{path.name} is missing"]
        data = gzip.decompress(path.read_bytes())
        require(path.stat().st_size < MAX_BYTES, f"{path.name}: larger than {MAX_BYTES} bytes")
        require(data == lines(sides[side]), f"{path.name}: not what the tables and this script give")
        loaded[side] = [json.loads(line) for line in data.decode().splitlines()]
        require(len(loaded[side]) >= least, f"{path.name}: fewer than {least} questions")

    keys = ["id", "question", "answers", "documents", "supporting", "gold_missing", "source"]
    rows = [(d, docs, r) for side in sides for (d, docs, _), r in zip(sides[side], loaded[side])]
    require(len({r["id"] for _, _, r in rows}) == len(rows), "ids are not unique")
    require(len({r["question"] for _, _, r in rows}) == len(rows), "a question occurs twice")
    dev_finals = {d.final for d, _, _ in sides["dev"] if d.final}
    shared = sum(d.final in dev_finals for d, _, _ in sides["train"])
    require(shared == 0, f"{shared} train questions share the last entity and its answer with dev")
    for draft, docs, r in rows:
        name = r["id"]
        texts = [d["title"] + ". " + d["text"] for d in r["documents"]]
        gold = [texts[i] for i in r["supporting"]]
        require(list(r) == keys and r["gold_missing"] == 0 and r["source"] == SOURCE, f"{name}: keys or constants")
        require(MIN_CANDIDATES <= len(texts) <= MAX_CANDIDATES, f"{name}: {len(texts)} candidates")
        require(len({d["title"] for d in r["documents"]}) == len(texts), f"{name}: a candidate occurs twice")
        require(r["supporting"] == sorted({docs.index(g) for g in draft.gold}), f"{name}: supporting is wrong")
        require({r["documents"][i]["title"] for i in r["supporting"]} == {g.name for g in draft.gold},
                f"{name}: supporting does not name the gold documents")
        require(len(r["supporting"]) == draft.hops in (2, 3), f"{name}: number of gold documents")
        for d in r["documents"]:
            sentences = len(re.findall(r"[.!?](?= [A-ZÀ-Ž0-9]|$)", d["text"]))
            require(2 <= sentences <= 7, f"{name}: {d['title']}: {sentences} sentences")
        require(sound(draft), f"{name}: gold documents do not give the answer, or one gives it alone")
        for e in docs:
            require(e in draft.gold or not spoils(draft, e), f"{name}: {e.name} allows the same inference")
        if draft.chain:
            require(sum(contains(t, r["answers"]) for t in gold) == 1,
                    f"{name}: answer not in exactly one gold document")
            require(not contains(r["question"], r["answers"]), f"{name}: answer in the question")
            for e in hidden(draft):
                require(not mentions(r["question"], e.name), f"{name}: the question names {e.name}")

    def share(items):
        items = list(items)
        return sum(items) / len(items)

    def near_half(items, what):
        value = share(items)
        require(abs(value - 0.5) <= 0.02, f"{what}: {value:.2f} is not about a half")
        return value

    print(f"documents: {len(entities)}, words a document: "
          f"{sum(len(e.text.split()) for e in entities.values()) / len(entities):.1f}")
    for side in sides:
        here = [row for row in sides[side]]
        size = (HERE / f"{side}.jsonl.gz").stat().st_size
        print(f"\n{side}: {len(here)} questions, {size} bytes, "
              f"{share(len(r['documents']) for _, _, r in here):.1f} candidates")
        print("  " + ", ".join(f"{h} gold documents: {share(d.hops == h for d, _, _ in here):.1%}" for h in (2, 3)))
        shapes = collections.Counter((d.shape.split(":")[0], d.hops) for d, _, _ in here)
        for (shape, hops), count in sorted(shapes.items()):
            print(f"  {shape}, {hops} documents: {count}")
        yes = [d for d, _, _ in here if d.shape.startswith("yes/no")]
        two = [d for d, _, _ in here if d.shape.startswith("comparison")]
        print(f"  yes among yes/no: {near_half((d.answers[0] == 'yes' for d in yes), side + ' yes'):.1%}; "
              f"first option right: {near_half((first_named_wins(d) for d in two), side + ' first option'):.1%}")
        three = share(d.hops == 3 for d, _, _ in here)
        require(0.25 <= three <= 0.40, f"{side}: {three:.2f} of the questions have 3 gold documents")

        # Position: with rank r of n candidates, (r + 1/2) / n has mean 1/2; sd of one draw is below 0.29.
        ranks = [(i + 0.5) / len(r["documents"]) for _, _, r in here for i in r["supporting"]]
        mean, bound = share(ranks), 3 * 0.29 / math.sqrt(len(ranks))
        print(f"  mean relative position of gold: {mean:.3f} (0.5 +- {bound:.3f})")
        require(abs(mean - 0.5) < bound, f"{side}: gold positions are not uniform")
        tenth = lambda i, n: int(10 * (i + 0.5) / n)
        found, expected = collections.Counter(), collections.Counter()
        for d, docs, record in here:
            found.update(tenth(i, len(docs)) for i in record["supporting"])
            for i in range(len(docs)):
                expected[tenth(i, len(docs))] += d.hops / len(docs)
        chi2 = sum((found[t] - expected[t]) ** 2 / expected[t] for t in range(10))
        print(f"  gold by tenth of the list: chi-square {chi2:.1f} (9 degrees of freedom, 0.1 % point 27.9)")
        require(chi2 < 27.9, f"{side}: gold positions are not uniform")

        print("  baselines:")
        tokens = lambda d: re.findall(r"\w+", (d["title"] + " " + d["text"]).lower())
        orders = [Bm25([tokens(d) for d in r["documents"]]).ranking(r["question"]) for _, _, r in here]
        for k in (2, 3):
            found = share(set(r["supporting"]) <= set(order[:k]) for (_, _, r), order in zip(here, orders))
            print(f"    BM25 top {k} of the candidates contains all gold: {found:.1%}")
            require(k != 2 or found < 0.45, f"{side}: BM25 top 2 finds all gold in {found:.2f} of the questions")
        bridges = [(row, order) for row, order in zip(here, orders) if row[0].chain]
        found = share(set(r["supporting"]) <= set(o[:d.hops]) for (d, _, r), o in bridges)
        print(f"    the same for chains, as many as are gold: {found:.1%}")
        frequent = collections.Counter(d.answers[0] for d, _, _ in sides["train"]).most_common(1)[0][0]
        em = share(frequent in d.answers for d, _, _ in here)
        print(f"    most frequent answer of train ({frequent}): EM {em:.1%}")
        require(em < 0.15, f"{side}: the most frequent answer scores {em:.2f}")
        correct = []
        for (d, docs, _), order in zip(here, orders):
            value = None
            if d.chain:
                same = [docs[i] for i in order if docs[i].group == d.gold[-1].group]
                if "intersection" in d.shape:
                    value = next((e.name for e in same if not mentions(d.text, e.name)), None)
                    correct.append(value == d.gold[-1].name)
                else:
                    value = next((d.read(e) for e in same if d.read(e)), None)
                    correct.append(value == d.final[1])
            elif d.shape.startswith("comparison"):
                correct.append(first_named_wins(d))
            else:
                correct.append(d.answers[0] == "yes")
        for what, keep in (("chains", True), ("comparison and yes/no", False)):
            value = share(c for c, (d, _, _) in zip(correct, here) if d.chain == keep)
            print(f"    asked relation read off the lexically best candidate of the right kind (always 'first', "
                  f"always 'yes'), {what}: EM {value:.1%}")
        value = share(correct)
        print(f"    the same, all questions: EM {value:.1%}")
        require(value < 0.5, f"{side}: a document of the right kind alone answers {value:.2f} of the questions")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="verify the files instead of writing them")
    options = parser.parse_args()
    entities, sides = build()
    if not options.check:
        write(sides)
        return 0
    failures = check(entities, sides)
    for failure in failures:
        print("FAILED: " + failure, file=sys.stderr)
    print(f"\n{'all checks passed' if not failures else f'{len(failures)} checks failed'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
