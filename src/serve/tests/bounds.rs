//! Each template that asks for too much ends within a second, with one line and on a small stack.

use crate::{Context, Limits, Message, Template, TemplateError, TemplateErrorKind, messages};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Half of the least stack that wick runs on.
const STACK: usize = 128 << 10;

/// A second; more where each instruction is translated.
fn patience() -> Duration {
    let is_emulated = std::env::var_os("WICK_EMULATED").is_some();
    Duration::from_secs(if is_emulated { 30 } else { 1 })
}

fn render(source: &str) -> Result<String, TemplateError> {
    let said = [Message::new("user", "Hello")];
    let context = Context::new().with("messages", messages(&said));
    Template::new(source)?.render(&context).map(|prompt| prompt.text().to_owned())
}

/// Renders a template on a thread with a small stack, within a second.
fn render_small(source: &str) -> Result<String, TemplateError> {
    let started = Instant::now();
    let source = source.to_owned();
    let name = source.chars().take(80).collect::<String>();
    let thread = Builder::new().stack_size(STACK).spawn(move || render(&source)).unwrap();
    let rendered = thread.join().unwrap();
    assert!(started.elapsed() < patience(), "{name}: {:?}", started.elapsed());
    rendered
}

fn is_limited(source: &str) {
    let error = render_small(source).unwrap_err();
    let name: String = source.chars().take(80).collect();
    assert_eq!(error.kind(), TemplateErrorKind::Limit, "{name}: {error}");
    assert!(!error.to_string().contains('\n') && error.to_string().len() < 200, "{error}");
}

#[test]
fn loops_end() {
    is_limited("{% for i in range(1000000000) %}x{% endfor %}");
    is_limited("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}");
    is_limited(
        "{% set l = [0] * 5000 %}{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}",
    );
    is_limited("{% for a in range(99999) if a < 0 %}{% endfor %}".repeat(20).as_str());
    is_limited("{% set s = 'a' * 4000000 %}{% for a in range(99999) %}{{ 'b' in s }}{% endfor %}");
    is_limited("{% set l = range(90000) %}{% for a in l %}{{ -1 in l }}{% endfor %}");
    is_limited(
        "{% set l = range(90000) | list %}{% for a in l %}{{ l == range(90000) }}{% endfor %}",
    );
    is_limited("{% set l = range(90000) %}{% for a in l %}{% set x = l | sort %}{% endfor %}");
    is_limited("{{ range(90000) | unique | list | length }}");
    is_limited("{% set s = 'a' * 99999 %}{% for a in s %}{{ s | trim(s) }}{% endfor %}");
}

#[test]
fn texts_stay_small() {
    let doubling = "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(40) %}\
                    {% set ns.s = ns.s ~ ns.s %}{% endfor %}x";
    is_limited(doubling);
    is_limited(&doubling.replace('~', "+"));
    is_limited("{{ 'a' * 10000000000 }}");
    is_limited("{{ 10000000000 * 'ab' }}");
    is_limited("{{ '%.1000000000f' | format(5.0) }}");
    is_limited("{{ '%1000000000d' % 5 }}");
    is_limited("{{ '%99999999999999999999d' % 5 }}");
    is_limited("{{ '%-1000000000s' % 'x' }}");
    is_limited("{{ 'a' | indent(4000000000, true) }}");
    is_limited("{{ ('a\n' * 100000) | indent('b' * 100000) }}");
    is_limited("{{ 'a' | center(4000000000) }}");
    is_limited("{{ 'a'.ljust(4000000000) }}{{ 'a'.zfill(4000000000) }}");
    is_limited("{{ ('a' * 100000) | replace('a', 'b' * 100000) }}");
    is_limited("{{ ('a' * 100000).replace('', 'b' * 100000) }}");
    is_limited("{{ range(90000) | join('b' * 100000) }}");
    is_limited("{{ ('b' * 100000).join('a' * 9000) }}");
    is_limited("{{ [1] | tojson(indent=4000000000) }}");
    is_limited("{{ '{0}{0}{0}{0}'.format('b' * 3000000) }}");
    is_limited("{% for a in range(90000) %}{{ 'a' * 1000 }}{% endfor %}");
    is_limited("{% for a in range(90000) %}{% set b %}{{ 'a' * 1000 }}{% endset %}{% endfor %}");
    is_limited("{{ strftime_now('%A' * 1000000) }}");
    assert_eq!(render_small("{{ 'a' | truncate(4000000000) }}").unwrap(), "a");
}

#[test]
fn lists_stay_small() {
    is_limited("{{ [0] * 10000000000 }}");
    is_limited("{{ [1] | batch(10000000000, 0) }}");
    let doubling = "{% set ns = namespace(l=[0]) %}{% for i in range(64) %}\
                    {% set ns.l = ns.l + ns.l %}{% endfor %}";
    is_limited(doubling);
    // Of little memory, but endless when it is written, compared or searched.
    let sharing = "{% set ns = namespace(l=[0]) %}{% for i in range(60) %}\
                   {% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}";
    is_limited(sharing);
    is_limited(&sharing.replace("[ns.l, ns.l]", "{'a': ns.l, 'b': ns.l}"));
    let deep = "{% set ns = namespace(l=[0]) %}{% for i in range(90000) %}\
                {% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}";
    is_limited(deep);
    is_limited(&deep.replace("[ns.l]", "{'a': ns.l}"));
    is_limited(&deep.replace("[ns.l]", "dict(a=ns.l)"));
    // As deep as values may be: what walks through them needs little stack.
    for written in ["ns.l", "ns.l | tojson", "ns.l == [ns.l]", "ns.l in [ns.l]", "ns.l < ns.l"] {
        let deepest =
            deep.replace("90000", "90").replace("{{ ns.l }}", &format!("{{{{ {written} }}}}"));
        assert!(!render_small(&deepest).unwrap().is_empty(), "{written}");
        let maps = deepest.replace("[ns.l] %}{% endfor", "{'a': ns.l} %}{% endfor");
        assert!(written.contains('<') || !render_small(&maps).unwrap().is_empty(), "{written}");
    }
}

#[test]
fn nothing_holds_itself() {
    let cycle = "{% set ns = namespace() %}{% set ns.a = ns %}{% set ns.b = [ns] %}";
    for written in ["ns", "ns.a.a.b", "[ns.b]", "ns ~ ''", "ns | tojson", "ns.b | string | length"]
    {
        let error = render_small(&format!("{cycle}{{{{ {written} }}}}")).unwrap_err();
        assert_eq!(error.kind(), TemplateErrorKind::Failed, "{written}: {error}");
    }
    assert_eq!(render_small(&format!("{cycle}{{{{ ns.b == ns.a.b }}}}")).unwrap(), "True");
    let namespaces = "{% for i in range(99999) %}{% set ns = namespace(a=1) %}{% endfor %}";
    is_limited(&namespaces.repeat(9));
}

#[test]
fn nesting_is_bounded_before_it_is_parsed() {
    for count in [100, 100_000] {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{'a':", "}"),
            ("x[", "]"),
            ("x(", ")"),
            ("1 if x else ", ""),
            ("not ", ""),
            ("-", ""),
            ("x | f(", ")"),
            ("x is in(", ")"),
        ] {
            is_limited(&format!("{{{{ {}1{} }}}}", open.repeat(count), close.repeat(count)));
        }
        for (open, close) in [
            ("{% if x %}", "{% endif %}"),
            ("{% if x %}{% else %}", "{% endif %}"),
            ("{% for x in y %}", "{% endfor %}"),
            ("{% set x %}", "{% endset %}"),
            ("{% macro x() %}", "{% endmacro %}"),
            ("{% with %}", "{% endwith %}"),
            ("{% filter upper %}", "{% endfilter %}"),
            ("{% generation %}", "{% endgeneration %}"),
        ] {
            let count = count.min(20_000);
            is_limited(&format!("{}{}", open.repeat(count), close.repeat(count)));
        }
    }
}

/// What is long and not deep is no trouble.
#[test]
fn chains_are_not_deep() {
    let chain = |link: &str| format!("{{{{ {}1 }}}}", link.repeat(20_000));
    assert_eq!(render_small(&chain("1 + ")).unwrap(), "20001");
    assert_eq!(render_small(&chain("1 * ")).unwrap(), "1");
    assert_eq!(render_small(&chain("1 ** ")).unwrap(), "1");
    assert_eq!(render_small(&chain("1 and ")).unwrap(), "1");
    assert_eq!(render_small(&chain("0 or ")).unwrap(), "1");
    assert_eq!(render_small(&chain("1 == ")).unwrap(), "True");
    assert_eq!(render_small(&chain("1 ~ ")).unwrap().len(), 20_001);
    let suffixes = format!("{{{{ ' a '{} }}}}", "|trim".repeat(20_000));
    assert_eq!(render_small(&suffixes).unwrap(), "a");
    let branches = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(20_000));
    assert_eq!(render_small(&branches).unwrap(), "");
    is_limited(&format!("{}{}", "{{ 1 }}".repeat(200_000), "x"));
}

#[test]
fn macros_do_not_recurse_for_ever() {
    is_limited("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    is_limited("{% macro m(a=m()) %}{% endmacro %}{{ m() }}");
    is_limited(
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ b() }}",
    );
    is_limited("{% macro m() %}{% for i in [[m()]] %}{% endfor %}{% endmacro %}{{ m() }}");
    // Wide instead of deep.
    is_limited(
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(20) }}",
    );
    let maps = format!("{{{{ 'a' | list | map({}) | list }}}}", "'map', ".repeat(10_000));
    is_limited(&maps);
    assert_eq!(
        render_small(
            "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% endif %}.{% endmacro %}{{ m(12) }}"
        )
        .unwrap(),
        "............."
    );
}

#[test]
fn long_templates_are_refused() {
    is_limited(&"a".repeat(Limits::SOURCE + 1));
    assert!(render_small(&"{{".repeat(100_000)).is_err());
    assert!(render_small(&"{%".repeat(100_000)).is_err());
    assert!(render_small(&"{#".repeat(100_000)).is_err());
    assert!(render_small(&"{% raw %}{%".repeat(20_000)).is_err());
    assert!(render_small(&"{% raw ".repeat(30_000)).is_err());
}

/// A conversation may be long: the bounds grow with it.
#[test]
fn long_conversations_are_rendered() {
    let template = "{%- set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}\
        {% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}\
        {{ '<' ~ m.role ~ '>' + (m.content | trim).replace('\r', '') + ('!' if loop.index0 == ns.last else '') }}\
        {% endfor %}";
    let said: Vec<Message> = (0..2000)
        .map(|i| Message::new(["user", "assistant"][i % 2], "word ".repeat(1000)))
        .collect();
    let context = Context::new().with("messages", messages(&said));
    let prompt = Template::new(template).unwrap().render(&context).unwrap();
    assert!(prompt.text().len() > 9_000_000);
}
