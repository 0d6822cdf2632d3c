"""Facts told early and asked for later, with other conversation between: only layers without a
window can answer once the fact lies further back than the windows reach."""

from . import arithmetic, commands, identity, stories
from .common import Exchange, draw, polish

PLACES = ["shed", "safe", "front door", "garage", "locker", "gym", "office", "cellar", "bike lock", "garden gate", "vault",
          "mailbox", "storage room", "boat house", "lab", "attic"]
OWNERS = ["Anna", "Peter", "Sofia", "David", "Emma", "Lukas", "Clara", "Jonas", "Maria", "Felix", "Julia", "Simon", "Laura",
          "Martin", "Eva", "Robert"]
PETS = ["dog", "cat", "horse", "parrot", "rabbit", "hamster", "goldfish", "turtle"]
NAMES = ["Milo", "Bella", "Rex", "Coco", "Nero", "Lola", "Oscar", "Daisy", "Sammy", "Ruby", "Toby", "Molly", "Leo", "Kira",
         "Balu", "Zoe", "Charly", "Pepper"]
COLORS = ["red", "green", "blue", "white", "yellow", "orange", "purple", "pink", "black", "brown", "gray", "silver"]
OBJECTS = ["key", "umbrella", "passport", "charger", "wallet", "hammer", "camera", "notebook", "flashlight", "letter", "ticket",
           "battery"]
SPOTS = ["top drawer", "blue box", "kitchen table", "left pocket", "green bag", "old closet", "glove box", "bottom shelf",
         "white cabinet", "desk", "basement", "toolbox"]
WORDS = ["river", "candle", "tiger", "window", "marble", "falcon", "copper", "winter", "pepper", "anchor", "violet", "rocket",
         "mango", "thunder", "velvet", "saddle", "lemon", "comet", "forest", "bridge", "pirate", "cactus", "ribbon", "walnut"]


def digits(rng, n):
    return "".join(rng.choice("0123456789") for _ in range(n))


def fact(rng):
    """(slots, (subject, value, question, verb)): the fact reads `subject verb value`."""
    kind = rng.randrange(8)
    who = rng.choice(OWNERS)
    if kind <= 1:
        what = rng.choice(PLACES)
        subject, value, q = f"the code for the {what}", digits(rng, 4), f"what is the code for the {what}"
    elif kind == 2:
        what = rng.choice(PLACES)
        subject, value, q = f"the password for the {what}", rng.choice(WORDS), f"what is the password for the {what}"
    elif kind == 3:
        pet = rng.choice(PETS)
        subject, value, q = f"the name of my {pet}", rng.choice(NAMES), f"what is the name of my {pet}"
    elif kind == 4:
        subject, value, q = f"the favorite color of {who}", rng.choice(COLORS), f"what is the favorite color of {who}"
    elif kind == 5:
        subject, value, q = f"the room number of {who}", digits(rng, 3), f"what is the room number of {who}"
    elif kind == 6:
        what, spot = rng.choice(OBJECTS), rng.choice(SPOTS)
        subject, value, q = f"the place of the {what}", f"the {spot}", rng.choice([f"where is the {what}", f"what is the place of the {what}"])
    else:
        value = f"{rng.randrange(24)}:{rng.randrange(0, 60, 5):02}"
        subject, q = f"the meeting with {who}", rng.choice([f"when is the meeting with {who}", f"at what time is the meeting with {who}"])
    verb = "is at" if kind == 7 else "is"
    return ("recall", subject, value), (subject, value, q, verb)


TELL = ["remember this: {f}", "remember that {f}", "{f}", "please note: {f}", "keep in mind that {f}", "do not forget: {f}",
        "note that {f}", "by the way, {f}", "save this for later: {f}", "i tell you now: {f}"]
ACK = "I will remember that."
ASK = ["{q}", "{q}", "{q}", "tell me, {q}", "do you remember {q}", "i forgot, {q}", "and {q}", "now, {q}", "so {q}"]


def some_facts(rng, n, held_out):
    """n facts about different subjects."""
    facts = {}
    while len(facts) < n:
        f = draw(rng, fact, held_out)
        facts.setdefault(f[0], f)
    return list(facts.values())


def sentence(f):
    return f"{f[0]} {f[3]} {f[1]}"


def capital(text):
    return text[0].upper() + text[1:]


def told(rng, facts):
    """Turns that tell the facts, each in its own turn or all in one."""
    turns = []
    if len(facts) > 1 and rng.random() < 0.5:
        text = rng.choice(TELL).format(f=" and ".join(sentence(f) for f in facts))
        return [("user", capital(text) + rng.choice([".", ""])), ("assistant", ACK)]
    for f in facts:
        text = rng.choice(TELL).format(f=sentence(f))
        turns += [("user", (capital(text) if rng.random() < 0.6 else text) + rng.choice([".", ""])), ("assistant", ACK)]
    return turns


def asked(rng, f):
    text = rng.choice(ASK).format(q=f[2])
    return [
        ("user", polish(rng, text, question=True, typos=False)),
        ("assistant", f"{capital(sentence(f))}."),
    ]


FILLERS = [(commands.sample, 4), (arithmetic.sample, 4), (stories.sample, 2), (identity.sample, 1)]


def filler(rng, size):
    """Other exchanges, about `size` characters of them; never held-out ones."""
    turns = []
    skills, weights = zip(*FILLERS)
    while sum(len(t) + 25 for _, t in turns) < size:
        turns += rng.choices(skills, weights)[0](rng, False).turns
    return turns


# About four characters make a token here, and a window holds 64.
LONGEST = 1350


def sample(rng, held_out, size=None, reach=1.0):
    """Facts, other talk of about `size` characters, then questions about the facts."""
    if size is None:
        size = 0 if rng.random() < 0.3 else rng.randrange(int(LONGEST * reach))
    facts = some_facts(rng, rng.choice([1, 2, 2, 3, 4]), held_out)
    turns = told(rng, facts) + filler(rng, size)
    rng.shuffle(facts)
    for f in facts[: 1 if held_out else 4]:
        turns += asked(rng, f)
    return Exchange(turns)
