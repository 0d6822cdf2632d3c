"""Renders every template and expression here with Jinja2, set up as `transformers` does for chat templates.

    python3 tests/templates/render.py        # writes rendered.json, which main.rs compares with

The templates are written for these tests, in the styles of public model families. What fails with Jinja2 is null.
"""

import datetime
import json
import pathlib

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2024, 7, 26, 9, 5, 3)


class Generation(Extension):
    """`{% generation %}`, which marks an answer for training and renders as what is in it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
)
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = lambda form: NOW.strftime(form)


def render(source, context):
    try:
        template = environment.from_string(source)
        return template.render(bos_token="<s>", eos_token="</s>", **context)
    except Exception:
        return None


conversations = json.loads((HERE / "conversations.json").read_text())
templates = {
    path.stem: {name: render(path.read_bytes().decode(), context) for name, context in conversations.items()}
    for path in sorted(HERE.glob("*.jinja"))
}
sources = (HERE / "expressions.txt").read_text().replace("\\\n", "\\\0").split("\n")[:-1]
expressions = {source.replace("\0", "\n"): None for source in sources}
for source in expressions:
    expressions[source] = render(source, conversations["plain"])
rendered = {"jinja2": jinja2.__version__, "templates": templates, "expressions": expressions}
(HERE / "rendered.json").write_text(json.dumps(rendered, ensure_ascii=False, indent=1) + "\n")
