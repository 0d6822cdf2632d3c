"""Sums of small numbers, clock and calendar arithmetic, unit conversion; answers show their steps."""

from .common import Exchange, draw, polish

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]
LENGTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

ADD = ["what is {a} + {b}", "{a} + {b}", "what is {a} plus {b}", "add {a} and {b}", "{a} plus {b}", "sum of {a} and {b}",
       "how much is {a} + {b}", "what do {a} and {b} make", "compute {a} + {b}", "i have {a} and get {b} more, how many"]
SUBTRACT = ["what is {a} - {b}", "{a} - {b}", "what is {a} minus {b}", "subtract {b} from {a}", "{a} minus {b}",
            "how much is {a} - {b}", "take {b} from {a}", "compute {a} - {b}", "i have {a} and lose {b}, how many are left"]


def add(a, b):
    """Column addition, units first."""
    if a < 10 and b < 10:
        return f"{a} + {b} = {a + b}."
    units = a % 10 + b % 10
    carry = " + 1" if units > 9 else ""
    tens = a // 10 + b // 10 + (units > 9)
    return f"{a % 10} + {b % 10} = {units}, {a // 10} + {b // 10}{carry} = {tens}. {a} + {b} = {a + b}."


def subtract(a, b):
    """Column subtraction with borrowing, units first; a >= b."""
    if a < 10:
        return f"{a} - {b} = {a - b}."
    borrow = a % 10 < b % 10
    top, tens = a % 10 + 10 * borrow, a // 10 - borrow
    return f"{top} - {b % 10} = {top - b % 10}, {tens} - {b // 10} = {tens - b // 10}. {a} - {b} = {a - b}."


def small(rng):
    return rng.randrange(10) if rng.random() < 0.25 else rng.randrange(100)


def sums(rng):
    a, b = small(rng), small(rng)
    if rng.random() < 0.55:
        return ("add", a, b), (rng.choice(ADD).format(a=a, b=b), add(a, b))
    a, b = max(a, b), min(a, b)
    return ("subtract", a, b), (rng.choice(SUBTRACT).format(a=a, b=b), subtract(a, b))


def clock_text(minutes):
    return f"{minutes // 60 % 24}:{minutes % 60:02}"


def hours_later(rng):
    h, m, n = rng.randrange(24), rng.randrange(0, 60, 5), rng.randrange(1, 13)
    after = rng.random() < 0.6
    start, end = f"{h}:{m:02}", clock_text((h + (n if after else -n)) % 24 * 60 + m)
    s = "s" if n > 1 else ""
    word, sign = ("after", "+") if after else ("before", "-")
    text = rng.choice([
        "what time is it {n} hour{s} {w} {t}", "{n} hour{s} {w} {t}", "which time is {n} hour{s} {w} {t}",
        "it is {t}, what time is it {x}", "tell me the time {n} hour{s} {w} {t}",
    ]).format(n=n, s=s, w=word, t=start, x=f"in {n} hour{s}" if after else f"{n} hour{s} earlier")
    raw = h + n if after else h - n
    wrap = f" = {raw % 24}" if raw != raw % 24 else ""
    steps = f"{h} {sign} {n} = {raw}{wrap}." if raw >= 0 else f"{h} + 24 - {n} = {raw % 24}."
    return ("hours", h, m, n, after), (text, f"{steps} It is {end}.")


def minutes_later(rng):
    h, m, n = rng.randrange(24), rng.randrange(0, 60, 5), rng.randrange(5, 60, 5)
    start, total = f"{h}:{m:02}", m + n
    text = rng.choice([
        "what time is it {n} minutes after {t}", "{n} minutes after {t}", "it is {t}, what time is it in {n} minutes",
        "which time is {n} minutes after {t}", "i leave at {t} and need {n} minutes, when do i arrive",
    ]).format(n=n, t=start)
    steps = f"{m} + {n} = {total}." if total < 60 else f"{m} + {n} = {total}, {total} - 60 = {total - 60}."
    return ("minutes", h, m, n), (text, f"{steps} It is {clock_text(h * 60 + total)}.")


def count_on(names, at, n, step):
    return ", ".join(f"{i} {names[(at + step * i) % len(names)]}" for i in range(1, n + 1))


def days(rng):
    at, n, after = rng.randrange(7), rng.randrange(1, 10), rng.random() < 0.65
    step, word = (1, "after") if after else (-1, "before")
    s = "s" if n > 1 else ""
    text = rng.choice([
        f"which day is {n} day{s} {word} {DAYS[at]}", f"what day is {n} day{s} {word} {DAYS[at]}",
        f"{n} day{s} {word} {DAYS[at]}",
        f"today is {DAYS[at]}, what day is it in {n} day{s}" if after
        else f"today is {DAYS[at]}, what day was it {n} day{s} ago",
    ])
    return ("days", at, n, after), (text, f"{count_on(DAYS, at, n, step)}. It is {DAYS[(at + step * n) % 7]}.")


def months(rng):
    at, n, after = rng.randrange(12), rng.randrange(1, 10), rng.random() < 0.65
    step, word = (1, "after") if after else (-1, "before")
    s = "s" if n > 1 else ""
    text = rng.choice([
        f"which month is {n} month{s} {word} {MONTHS[at]}", f"what month is {n} month{s} {word} {MONTHS[at]}",
        f"{n} month{s} {word} {MONTHS[at]}",
    ])
    return ("months", at, n, after), (text, f"{count_on(MONTHS, at, n, step)}. It is {MONTHS[(at + step * n) % 12]}.")


# (large unit, plural, small unit, zeros to append)
SCALES = [
    ("kilometer", "kilometers", "meters", 3), ("kilogram", "kilograms", "grams", 3), ("liter", "liters", "milliliters", 3),
    ("meter", "meters", "centimeters", 2), ("centimeter", "centimeters", "millimeters", 1), ("ton", "tons", "kilograms", 3),
    ("second", "seconds", "milliseconds", 3), ("kilowatt", "kilowatts", "watts", 3), ("euro", "euros", "cents", 2),
]
CONVERT = ["how many {b} are {n} {a}", "convert {n} {a} to {b}", "{n} {a} in {b}", "what is {n} {a} in {b}",
           "{n} {a} to {b}", "give me {n} {a} in {b}"]


def conversion(rng):
    one, many, less, zeros = rng.choice(SCALES)
    n = rng.randrange(1, 100)
    big = one if n == 1 else many
    if rng.random() < 0.6:
        text = rng.choice(CONVERT).format(n=n, a=big, b=less)
        return ("convert", one, less, n), (text, f"{n} {big} = {n}{'0' * zeros} {less}.")
    text = rng.choice(CONVERT).format(n=f"{n}{'0' * zeros}", a=less, b=many)
    return ("back", one, less, n), (text, f"{n}{'0' * zeros} {less} = {n} {big}.")


def to_hours(rng):
    n = rng.randrange(61, 180)
    h, m = divmod(n, 60)
    s, t = "s" if h > 1 else "", "" if m == 1 else "s"
    text = rng.choice(["how many hours are {n} minutes", "convert {n} minutes to hours", "{n} minutes in hours",
                       "what is {n} minutes in hours and minutes"]).format(n=n)
    return ("to hours", n), (text, f"{n} minutes = {h} hour{s} {m} minute{t}.")


def table(rng):
    """Small tables that can only be learned by heart; never part of the test."""
    i, d = rng.randrange(12), rng.randrange(7)
    n = rng.randrange(1, 13)
    s = "s" if n > 1 else ""
    return rng.choice([
        (f"how many days has {MONTHS[i]}", f"{MONTHS[i]} has {LENGTHS[i]} days."),
        (f"how many minutes are {n} hour{s}", f"{n} hour{s} = {n * 60} minutes."),
        (f"how many hours are {n} day{s}", f"{n} day{s} = {n * 24} hours."),
        (f"how many days are {n} week{s}", f"{n} week{s} = {n * 7} days."),
        (f"which day comes after {DAYS[d]}", f"{DAYS[(d + 1) % 7]}."),
        (f"which month comes after {MONTHS[i]}", f"{MONTHS[(i + 1) % 12]}."),
    ])


KINDS = [sums] * 6 + [hours_later] * 2 + [minutes_later] * 2 + [days, months] + [conversion] * 2 + [to_hours]


def sample(rng, held_out):
    if not held_out and rng.random() < 0.04:
        text, reply = table(rng)
    else:
        text, reply = draw(rng, rng.choice(KINDS), held_out)
    asks = text.startswith(("what", "how", "which", "it is", "i have", "i leave", "today"))
    return Exchange([("user", polish(rng, text, question=asks)), ("assistant", reply)])
