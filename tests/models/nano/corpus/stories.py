"""Short stories from plot frames: who wants what, what goes wrong, who helps, how it ends."""

from .common import Exchange, draw, polish

PEOPLE = [
    ("Mia", "girl", "she", "her", "her"), ("Tom", "boy", "he", "him", "his"), ("Ada", "girl", "she", "her", "her"),
    ("Ben", "boy", "he", "him", "his"), ("Lena", "girl", "she", "her", "her"), ("Omar", "boy", "he", "him", "his"),
    ("Rosa", "woman", "she", "her", "her"), ("Paul", "man", "he", "him", "his"), ("Nina", "baker", "she", "her", "her"),
    ("Karl", "farmer", "he", "him", "his"), ("Ivy", "gardener", "she", "her", "her"), ("Hugo", "sailor", "he", "him", "his"),
    ("Pip", "mouse", "he", "him", "his"), ("Fern", "fox", "she", "her", "her"), ("Bruno", "bear", "he", "him", "his"),
    ("Dot", "robot", "she", "her", "her"), ("Olive", "owl", "she", "her", "her"), ("Max", "dog", "he", "him", "his"),
    ("Luna", "cat", "she", "her", "her"), ("Finn", "rabbit", "he", "him", "his"), ("Wanda", "duck", "she", "her", "her"),
    ("Rolf", "hedgehog", "he", "him", "his"),
]
TRAITS = ["small", "young", "curious", "quiet", "brave", "cheerful", "careful", "clever", "patient", "shy", "kind"]
PLACES = [
    "a small village", "a house by the sea", "the old forest", "a quiet town", "a valley between two hills",
    "a farm near the river", "an old mill", "a lighthouse", "a green meadow", "a narrow street", "a little harbor",
    "a garden with high walls",
]
THINGS = [
    "lamp", "kite", "clock", "red scarf", "silver bell", "wooden boat", "blue cup", "map", "flute", "golden key",
    "old book", "basket", "bicycle", "drum", "lantern", "music box", "compass", "paper star",
]
WEATHER = [
    "The sun was warm.", "A soft rain was falling.", "The wind blew from the sea.", "Snow lay on the roofs.",
    "The sky was gray.", "Fog hung over the fields.", "The air smelled of flowers.", "It was a cold morning.",
]
SPOTS = [
    "under a bench", "behind the stove", "in a tall tree", "on the roof", "near the well", "under the bridge",
    "in the hay", "beside the river", "in an empty barn", "under a pile of leaves",
]
FOODS = ["bread", "soup", "apple pie", "honey cakes", "pancakes", "cheese", "plums", "warm milk"]
MORALS = [
    "From then on, {n} always asked for help when something was hard.", "{n} never forgot that day.",
    "And {n} slept well that night.", "{He} had learned that a friend is worth more than a treasure.",
    "Since that day they met every week.", "{He} smiled all the way home.", "It was the best day of the year.",
    "{n} knew now that small steps lead far.", "After that, nobody in the village was afraid of the dark.",
    "That evening they told the story to everyone.",
]

OPENING = [
    "{n} was a {trait} {kind} who lived in {place}.", "Once there was a {trait} {kind} named {n}.",
    "In {place} lived a {trait} {kind}. {His} name was {n}.", "There was once a {kind} called {n}, who was very {trait}.",
    "Long ago, a {trait} {kind} named {n} lived in {place}.",
]

# Each frame: the parts in order, each with its alternatives.
FRAMES = {
    "lost": [
        ["{He} had a {thing} that {he} loved more than anything.", "{His} {thing} had belonged to {his} grandmother.",
         "Every day {he} played with {his} {thing}."],
        ["One morning the {thing} was gone.", "One day {he} could not find the {thing}.", "But one evening the {thing} was missing."],
        ["{n} looked everywhere, but {he} found nothing.", "{He} searched the whole house and felt sad.",
         "{He} asked all the neighbors, but nobody had seen it."],
        ["Then {f}, the {fkind}, came by and said, \"I will help you.\"", "{f}, a {fkind}, heard {him} and wanted to help.",
         "\"Let us look together,\" said {f}, the {fkind} from next door."],
        ["They looked {spot}, and there it was.", "At last they found the {thing} {spot}.", "{f} saw something shine {spot}. It was the {thing}!"],
        ["{n} was so happy that {he} danced.", "\"Thank you,\" said {n}, and they shared some {food}.", "{n} gave {f} a big hug."],
    ],
    "storm": [
        ["One night a storm came over the hills.", "One evening dark clouds covered the sky.", "In autumn a great storm began."],
        ["The wind was so strong that the door broke.", "Rain ran through the roof and put out the fire.", "Thunder shook the windows."],
        ["{n} was afraid, but {he} lit {his} {thing} and waited.", "{n} held {his} {thing} close and counted to ten.",
         "{n} wanted to hide, but then {he} heard a voice outside."],
        ["Outside stood {f}, the {fkind}, wet and cold.", "{f}, a {fkind}, knocked at the door and asked for shelter."],
        ["\"Come in,\" said {n}. \"There is {food} for both of us.\"", "{n} opened the door and made some {food}.",
         "{n} gave {f} a blanket and some {food}."],
        ["They talked until the storm was over.", "In the morning the sun came back, and together they repaired the roof.",
         "When the rain stopped, they saw a rainbow over the trees."],
    ],
    "machine": [
        ["{He} liked to repair things.", "{He} wanted to build something new.", "{He} had many tools and good ideas."],
        ["One day {f}, the {fkind}, brought {him} a broken {thing}.", "One day {his} friend {f}, a {fkind}, came with a {thing} that did not work."],
        ["\"Can you repair it?\" asked {f}.", "\"It was a gift,\" said {f}, \"and I miss it very much.\""],
        ["{n} looked at it for a long time and thought.", "{n} opened it carefully and found a loose screw.", "First {he} cleaned it, and then {he} tried again."],
        ["It was not easy, but {he} did not give up.", "Twice it failed, but the third time it worked.", "{He} worked until the moon was high."],
        ["In the end the {thing} was as good as new.", "{f} laughed when the {thing} worked again.", "{f} paid with {food}, and both were glad."],
    ],
    "journey": [
        ["{He} had never been far from home.", "{He} often looked at the mountains and wondered what was behind them.", "{He} dreamed of the sea."],
        ["One day {he} packed {his} {thing} and some {food} and left.", "So {he} took {his} {thing} and walked along the river.",
         "One morning {he} said goodbye and began a long walk."],
        ["On the way {he} met {f}, a {fkind}.", "At a crossing sat {f}, a {fkind}, who did not know the way.", "After two days {he} met a {fkind} named {f}."],
        ["\"Where are you going?\" asked {f}. \"To the end of the road,\" said {n}.", "\"May I come with you?\" asked {f}. \"Of course,\" said {n}.",
         "They decided to walk together."],
        ["They crossed a bridge, climbed a hill and slept under the stars.", "When they were tired, they rested and ate {food}.",
         "Once they lost their way, but the {thing} helped them."],
        ["At last they saw the sea, blue and wide.", "Behind the last hill they found a valley full of flowers.", "In the end they came home with many stories."],
    ],
    "garden": [
        ["{He} had a garden where nothing wanted to grow.", "In spring {he} planted a single seed.", "{He} wished for a garden full of flowers."],
        ["Every morning {he} carried water from the well.", "Every day {he} waited, but the ground stayed brown.", "{He} talked to the plants and sang for them."],
        ["{f}, the {fkind}, laughed and said, \"That will never work.\"", "{f}, a {fkind}, watched {him} and shook {fhis} head."],
        ["But {n} was patient.", "But {n} did not listen and went on.", "\"Wait and see,\" said {n}."],
        ["After three weeks a green leaf appeared.", "Then, one morning, the first flower opened.", "In summer the garden was full of color."],
        ["{f} was surprised and asked, \"How did you do it?\" \"With time,\" said {n}.", "They sat among the flowers and ate {food}.",
         "{n} gave {f} the most beautiful flower."],
    ],
    "contest": [
        ["Every year there was a contest in the village.", "In summer the village held a big race.", "One day a contest was announced: who could make the best {food}?"],
        ["{n} wanted to win, but {he} was nervous.", "{n} practiced every day.", "Everyone said that {f}, the {fkind}, would win."],
        ["On that day {f}, the {fkind}, fell and hurt {fhis} foot.", "Just before the start, {f}, the {fkind}, lost {fhis} {thing}."],
        ["{n} stopped at once and helped.", "{n} could have gone on, but {he} turned around.", "\"Wait, I will help you,\" said {n}."],
        ["So neither of them won.", "They came in last, but everybody cheered.", "Together they reached the end, slowly but laughing."],
        ["The prize was a {thing}, and they shared it.", "The mayor gave both of them a medal.", "\"You are the real winner,\" said {f}."],
    ],
    "secret": [
        ["One day {he} found a {thing} {spot}.", "While {he} was cleaning, {he} found a {thing}.", "{He} was digging when {he} hit something hard: a {thing}."],
        ["On it was written: \"For the one who is kind.\"", "It was old and covered with dust.", "When {he} touched it, it began to shine."],
        ["{n} showed it to {f}, a {fkind}.", "{n} ran to {f}, the wise {fkind}.", "Only {f}, a {fkind}, knew what it was."],
        ["\"It belongs to the king,\" said {f}.", "\"Keep it safe,\" said {f}, \"and tell nobody.\"", "\"It shows you what you need,\" said {f}, \"not what you want.\""],
        ["{n} thought about it all night.", "{n} put it in a box and waited.", "So {he} took it to the tower at the edge of the town."],
        ["There {he} understood: the real treasure was a friend.", "The next day {he} gave it to a child who had nothing.", "And from that day on it made everyone who saw it smile."],
    ],
}
REQUESTS = [
    "tell me a story about {a} {k}", "tell me a story about {a} {k} and {b} {t}", "write a short story about {a} {k}",
    "a story about {a} {k} please", "can you tell a story with {a} {k} and {b} {t}", "i want to hear a story about {a} {k}",
    "tell me a bedtime story about {a} {k}",
]
ANY = ["tell me a story", "tell a story", "write a short story", "i want a story", "another story", "i am bored, tell me something"]


def article(word):
    return "an" if word[0] in "aeiou" else "a"


def cast(rng):
    hero, friend = rng.sample(PEOPLE, 2)
    return hero, friend, rng.choice(THINGS), rng.choice(list(FRAMES))


def tell(rng, hero, friend, thing, frame):
    name, kind, he, him, his = hero
    words = dict(
        n=name, kind=kind, he=he, him=him, his=his, He=he.capitalize(), His=his.capitalize(), f=friend[0], fkind=friend[1],
        fhis=friend[4], thing=thing, trait=rng.choice(TRAITS), place=rng.choice(PLACES), spot=rng.choice(SPOTS),
        food=rng.choice(FOODS),
    )
    parts = [rng.choice(OPENING)]
    for choices in FRAMES[frame]:
        if rng.random() < 0.25:
            parts.append(rng.choice(WEATHER)) if len(parts) < 3 else None
        parts.append(rng.choice(choices))
    parts.append(rng.choice(MORALS))
    text = " ".join(parts).format(**words)
    for word in ("old ", "owl", "honest", "apple "):
        text = text.replace(f" a {word}", f" an {word}")
    return text


def pick(rng, held_out):
    return draw(rng, lambda r: (lambda c: (("story", c[0][0], c[1][0], c[2], c[3]), c))(cast(r)), held_out)


def story(rng, held_out):
    """A story as free text."""
    return tell(rng, *pick(rng, held_out))


def sample(rng, held_out):
    """A story that somebody asked for."""
    hero, friend, thing, frame = pick(rng, held_out)
    text = rng.choice(ANY) if rng.random() < 0.25 else rng.choice(REQUESTS).format(
        k=hero[1], t=thing, a=article(hero[1]), b=article(thing)
    )
    return Exchange([("user", polish(rng, text)), ("assistant", tell(rng, hero, friend, thing, frame))])
