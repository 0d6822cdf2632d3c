//! Calls of tools in the middle of a text.

use super::{TOKENIZER, in_memory, nano, request, run};
use serde_json::{Value, json};
use std::sync::Arc;
use wick_core::{HeadRows, Sampling};
use wick_format::Gguf;
use wick_serve::constraint::{Calling, Forms, Tool};
use wick_session::{Constraint, ConstraintError, Ended, Request, tokenizer};
use wick_tests::golden_bytes;
use wick_text::Special;

/// A constraint whose text begins as if a model that has learnt to call had written it.
#[derive(Debug)]
struct Begun {
    inner: Box<dyn Constraint>,
    ids: Vec<u32>,
    taken: usize,
    mask: Vec<u32>,
}

fn allows(words: Option<&[u32]>, id: u32) -> bool {
    words.is_none_or(|words| words[id as usize / 32] >> (id % 32) & 1 != 0)
}

impl Constraint for Begun {
    fn allowed(&mut self) -> Result<Option<&[u32]>, ConstraintError> {
        let allowed = self.inner.allowed()?;
        let Some(id) = self.ids.get(self.taken) else { return Ok(allowed) };
        assert!(allows(allowed, *id), "{id}");
        self.mask = vec![0; nano().config.vocab.div_ceil(32)];
        self.mask[*id as usize / 32] |= 1 << (id % 32);
        Ok(Some(&self.mask))
    }

    fn take(&mut self, id: u32) -> Result<(), ConstraintError> {
        self.taken += 1;
        self.inner.take(id)
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }
}

fn constraint(is_parallel: bool) -> Box<dyn Constraint> {
    let gguf = Gguf::parse(golden_bytes(&format!("{}.gguf", super::NANO))).unwrap();
    let forms = Forms::new(Arc::new(tokenizer(&gguf).unwrap()));
    let level = json!({"level": {"type": "integer", "minimum": 0, "maximum": 9}});
    let schema = json!({"properties": level, "required": ["level"], "additionalProperties": false});
    let tool = Tool { name: "dim".into(), parameters: schema };
    let calling = Calling { is_required: false, is_parallel };
    forms.calls(&[tool], calling).unwrap().constraint()
}

/// The ids of a text, as the tokenizer writes it or byte by byte.
fn ids(text: &str, by_byte: bool) -> Vec<u32> {
    let mut ids = Vec::new();
    match by_byte {
        true => text.chars().for_each(|c| ids.push(TOKENIZER.id_of(&c.to_string()).unwrap())),
        false => TOKENIZER.encode(text, Special::Text, &mut ids),
    }
    ids
}

#[test]
fn a_call_that_has_begun_is_written_as_its_schema_says() {
    for (begin, by_byte) in [
        ("Fine.\n<tool_call>", false),
        ("a <tool <tool_call>", true),
        ("<<tool_call>\n", false),
        ("<tool_call>\n", true),
    ] {
        let constraint = Some(Box::new(Begun {
            inner: constraint(false),
            ids: ids(begin, by_byte),
            taken: 0,
            mask: Vec::new(),
        }) as Box<dyn Constraint>);
        let wild = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, ..Sampling::GREEDY };
        let asked = Request { constraint, most: 60, ..request("hi", wild) };
        let came = run(&mut in_memory(1, 64, HeadRows::Exact), vec![asked]).remove(0);
        assert_eq!(came.ended, Some(Ended::Stop), "{came:?}");
        let (said, call) = came.text.split_once("<tool_call>\n").unwrap();
        assert_eq!(said, begin.trim_end().strip_suffix("<tool_call>").unwrap());
        let call: Value =
            serde_json::from_str(call.strip_suffix("\n</tool_call>").unwrap()).unwrap();
        assert_eq!(call["name"], "dim");
        assert!(call["arguments"]["level"].as_u64().unwrap() < 10, "{call}");
    }
}

/// Any token may follow where no call begins; where one does, none that would go on with something else.
#[test]
fn only_what_a_call_can_go_on_with_ends_its_beginning() {
    let mut constraint = constraint(true);
    for id in ids("see <tool", true) {
        constraint.take(id).unwrap();
    }
    let go_on = |id: u32| {
        let bytes = TOKENIZER.token_bytes(id).unwrap();
        bytes.strip_prefix(b"_call>").is_none_or(|rest| rest.is_empty() || rest == b"\n")
    };
    let allowed = constraint.allowed().unwrap();
    assert!((0..TOKENIZER.len() as u32).all(|id| allows(allowed, id) == go_on(id)));
    constraint.take(ids("x", true)[0]).unwrap();
    assert_eq!(constraint.allowed(), Ok(None));
    assert!(!constraint.is_complete());
}
