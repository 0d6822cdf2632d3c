"""Commands of an edge device: a sentence becomes JSON, or a question when something is missing."""

import json

from .common import Exchange, draw, polish

ROOMS = [
    "kitchen", "bedroom", "bathroom", "living room", "hall", "office", "garage", "garden", "attic", "cellar",
    "nursery", "dining room", "guest room", "workshop", "porch", "balcony", "studio", "greenhouse",
]
COLORS = ["red", "green", "blue", "white", "yellow", "orange", "purple", "pink"]

ON_OFF = ["on", "off"]
# device: (actions without a value, values that can be set, other names people use)
DEVICES = {
    "light": (ON_OFF, ["level", "color"], ["light", "lights", "light"]),
    "lamp": (ON_OFF, ["level", "color"], ["lamp", "lamp", "lamps"]),
    "fan": (ON_OFF, ["speed"], ["fan"]),
    "heater": (ON_OFF, ["temperature"], ["heater", "heating", "radiator"]),
    "thermostat": (["read"], ["temperature"], ["thermostat"]),
    "oven": (ON_OFF, ["temperature", "minutes"], ["oven"]),
    "kettle": (ON_OFF, [], ["kettle"]),
    "blinds": (["open", "close"], ["level"], ["blinds", "blind", "shades"]),
    "curtain": (["open", "close"], ["level"], ["curtain", "curtains"]),
    "window": (["open", "close"], [], ["window", "windows"]),
    "door": (["open", "close", "lock", "unlock"], [], ["door"]),
    "gate": (["open", "close", "lock", "unlock"], [], ["gate"]),
    "speaker": (["play", "pause", "stop", "mute"], ["volume"], ["speaker", "speakers", "music"]),
    "tv": (["on", "off", "pause", "mute"], ["volume", "channel"], ["tv", "television", "TV"]),
    "radio": (["on", "off", "mute"], ["volume", "channel"], ["radio"]),
    "camera": (["start", "stop"], [], ["camera"]),
    "alarm": (["arm", "disarm"], [], ["alarm"]),
    "sprinkler": (["start", "stop"], ["minutes"], ["sprinkler", "sprinklers"]),
    "pump": (["start", "stop", "on", "off"], ["speed"], ["pump"]),
    "vacuum": (["start", "stop", "dock"], [], ["vacuum", "robot vacuum"]),
    "sensor": (["read"], [], ["sensor"]),
}

# {d} is the device with its place, e.g. "the kitchen light"
PLAIN = {
    "on": ["turn on {d}", "turn {d} on", "switch on {d}", "switch {d} on", "put {d} on", "can you turn on {d}",
           "i need {d} on", "power on {d}", "could you switch {d} on", "i want {d} on", "{d} on", "get {d} going"],
    "off": ["turn off {d}", "turn {d} off", "switch off {d}", "switch {d} off", "shut off {d}", "kill {d}",
            "can you turn off {d}", "power off {d}", "could you switch {d} off", "i want {d} off", "{d} off",
            "i do not need {d} anymore"],
    "open": ["open {d}", "can you open {d}", "could you open {d}", "i want {d} open", "open up {d}", "get {d} open"],
    "close": ["close {d}", "shut {d}", "can you close {d}", "could you shut {d}", "i want {d} closed", "pull {d} shut"],
    "lock": ["lock {d}", "can you lock {d}", "make sure {d} is locked", "lock up {d}", "keep {d} locked"],
    "unlock": ["unlock {d}", "can you unlock {d}", "make sure {d} is unlocked", "take the lock off {d}"],
    "play": ["play {d}", "start playing on {d}", "play something on {d}", "let {d} play", "i want to hear {d}"],
    "pause": ["pause {d}", "hold {d} for a moment", "can you pause {d}", "put {d} on pause"],
    "stop": ["stop {d}", "can you stop {d}", "make {d} stop", "halt {d}", "end {d} now"],
    "start": ["start {d}", "can you start {d}", "get {d} started", "let {d} run", "run {d}"],
    "mute": ["mute {d}", "silence {d}", "can you mute {d}", "make {d} silent", "no sound from {d}"],
    "read": ["read {d}", "what does {d} say", "check {d}", "give me the value of {d}", "what is {d} showing"],
    "arm": ["arm {d}", "can you arm {d}", "make {d} ready", "activate {d}"],
    "disarm": ["disarm {d}", "can you disarm {d}", "deactivate {d}", "stand down {d}"],
    "dock": ["dock {d}", "send {d} home", "send {d} back to its dock", "park {d}"],
}

SETTING = {
    "level": ["set {d} to {v} percent", "dim {d} to {v} percent", "{d} to {v} percent", "put {d} at {v}%",
              "set {d} to {v}%", "bring {d} to {v} percent", "change {d} to {v} percent", "i want {d} at {v} percent",
              "adjust {d} to {v} percent", "move {d} to {v}%", "can you set {d} to {v} percent", "lower {d} to {v} percent",
              "raise {d} to {v} percent", "make it {v} percent on {d}"],
    "color": ["make {d} {v}", "turn {d} {v}", "set {d} to {v}", "change {d} to {v}", "i want {d} {v}", "{d} in {v}",
              "color {d} {v}", "can you make {d} {v}"],
    "speed": ["set {d} to speed {v}", "run {d} at speed {v}", "{d} on speed {v}", "put {d} on step {v}",
              "change the speed of {d} to {v}", "i want {d} at speed {v}", "turn {d} to speed {v}"],
    "temperature": ["set {d} to {v} degrees", "heat {d} to {v} degrees", "{d} to {v} degrees", "put {d} at {v} degrees",
                    "change {d} to {v} degrees", "i want {d} at {v} degrees", "bring {d} to {v} degrees",
                    "make {d} {v} degrees", "can you set {d} to {v} degrees", "set the temperature of {d} to {v}"],
    "minutes": ["run {d} for {v} minutes", "{d} for {v} minutes", "start {d} for {v} minutes", "let {d} run for {v} minutes",
                "set {d} for {v} minutes", "i need {d} for {v} minutes", "use {d} for {v} minutes"],
    "volume": ["set {d} to volume {v}", "set the volume of {d} to {v}", "volume {v} on {d}", "turn {d} to volume {v}",
               "change the volume of {d} to {v}", "put {d} at volume {v}", "i want {d} at volume {v}"],
    "channel": ["put {d} on channel {v}", "switch {d} to channel {v}", "channel {v} on {d}", "set {d} to channel {v}",
                "change {d} to channel {v}", "i want channel {v} on {d}", "show channel {v} on {d}"],
}

# What to ask when the value is missing; {d} is the canonical device with its room.
MISSING = {
    "level": "To what percent should I set {d}?",
    "speed": "Which speed should I set for {d}?",
    "temperature": "How many degrees should I set for {d}?",
    "volume": "Which volume should I set for {d}?",
    "channel": "Which channel should I put on {d}?",
    "minutes": "For how many minutes should I run {d}?",
}
VAGUE = {
    "level": ["dim {d}", "set the level of {d}", "change the level of {d}", "adjust the level of {d}"],
    "speed": ["change the speed of {d}", "set the speed of {d}", "adjust the speed of {d}"],
    "temperature": ["change the temperature of {d}", "set the temperature of {d}", "adjust the temperature of {d}"],
    "volume": ["change the volume of {d}", "set the volume of {d}", "adjust the volume of {d}"],
    "channel": ["change the channel of {d}", "switch the channel on {d}", "another channel on {d}"],
    "minutes": ["run {d} for a while", "set the time of {d}", "let {d} run for some minutes"],
}
UNITS = {"level": " percent", "temperature": " degrees", "minutes": " minutes"}


def value_of(rng, what, device):
    if what == "level":
        return rng.choice(range(0, 101, 5)) if rng.random() < 0.5 else rng.randrange(101)
    if what == "color":
        return rng.choice(COLORS)
    if what == "speed":
        return rng.randrange(1, 10)
    if what == "temperature":
        return rng.randrange(100, 251, 5) if device == "oven" else rng.randrange(12, 31)
    return rng.randrange(1, 61) if what == "minutes" else rng.randrange(1, 100 if what == "channel" else 51)


def slots(rng):
    device = rng.choice(list(DEVICES))
    plain, values, _ = DEVICES[device]
    room = rng.choice(ROOMS)
    if values and (not plain or rng.random() < 0.55):
        what = rng.choice(values)
        return device, room, "set", what, value_of(rng, what, device)
    return device, room, rng.choice(plain), None, None


def answer(device, room, action, what, value):
    """The command as compact JSON; keys in the order device, room, action, value."""
    out = {"device": device, "room": room, "action": action}
    if what:
        out[what] = value
    return json.dumps(out, separators=(",", ":"))


def place(rng, device, room):
    """How people name a device in a room."""
    name = rng.choice(DEVICES[device][2])
    r = rng.random()
    if r < 0.62:
        return f"the {room} {name}"
    return f"{room} {name}" if r < 0.72 else f"the {name} in the {room}"


def request(rng, device, room, action, what, value, where=None):
    where = where or place(rng, device, room)
    patterns = SETTING[what] if what else PLAIN[action]
    return rng.choice(patterns).format(d=where, v=value)


def ask(text):
    return ("user", text)


def missing_room(rng, slot):
    device, room, action, what, value = slot
    name = rng.choice(DEVICES[device][2])
    first = request(rng, *slot, where=f"the {name}")
    reply = rng.choice(["{}", "the {}", "in the {}", "the one in the {}"]).format(room)
    return [
        ask(polish(rng, first)),
        ("assistant", f"In which room is the {device}?"),
        ask(polish(rng, reply, typos=False)),
        ("assistant", answer(*slot)),
    ]


def missing_value(rng, slot):
    device, room, action, what, value = slot
    first = rng.choice(VAGUE[what]).format(d=place(rng, device, room))
    unit = UNITS.get(what, "")
    reply = rng.choice([f"{value}{unit}", f"{value}", f"to {value}{unit}", f"make it {value}{unit}"])
    return [
        ask(polish(rng, first)),
        ("assistant", MISSING[what].format(d=f"the {room} {device}")),
        ask(polish(rng, reply, typos=False)),
        ("assistant", answer(*slot)),
    ]


def impossible(rng, slot):
    device, room = slot[:2]
    verbs = ["open", "close", "lock", "unlock", "pause", "mute", "arm", "disarm", "dock"]
    action = rng.choice([v for v in verbs if v not in DEVICES[device][0]])
    text = rng.choice(["{a} {d}", "can you {a} {d}", "i want you to {a} {d}"]).format(a=action, d=place(rng, device, room))
    return [ask(polish(rng, text)), ("assistant", f"I cannot {action} the {device}.")]


def sample(rng, held_out):
    """One command; about one in five needs a question first or cannot be done."""

    def make(rng):
        slot = slots(rng)
        return ("command", *slot), slot

    slot = draw(rng, make, held_out)
    r = rng.random()
    if r < 0.08:
        turns = missing_room(rng, slot)
    elif r < 0.16 and slot[3] in MISSING:
        turns = missing_value(rng, slot)
    elif r < 0.20:
        turns = impossible(rng, slot)
    else:
        text = request(rng, *slot)
        turns = [ask(polish(rng, text, question=text.startswith(("can", "could", "what")))), ("assistant", answer(*slot))]
    if r < 0.16 and rng.random() < 0.35:
        turns = turns[:2]
    return Exchange(turns)
