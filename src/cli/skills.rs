//! Questions whose answers are known: the part of `wick eval` that counts right answers.

use crate::answer::Answer;
use crate::engine::{EngineArguments, HeadRowsArguments, with_engine};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::json::{MESSAGES, messages, wrong_line};
use crate::progress::Progress;
use crate::report::print_line;
use crate::screen::line;
use crate::template::{ChatTemplate, TemplateArguments, encode, plain};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};
use wick_core::Sampling;
use wick_linux::host::{Model, one_sequence};
use wick_serve::Message;
use wick_text::Tokenizer;

/// One question.
pub(crate) struct Question {
    skill: String,
    messages: Vec<Message>,
    answer: String,
    /// Where it stands in its file, from 1 on.
    line: usize,
}

#[derive(Default, Serialize)]
struct Score {
    right: usize,
    of: usize,
    /// Questions that could not be asked, which do not count.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The questions in `text`, which is that of the file `name`: a JSON object a line.
pub(crate) fn questions(name: &str, text: &str) -> Result<Vec<Question>, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let question = |(line, text)| {
        Question::parse(line, text)
            .map_err(|e| Failure::new(Exit::Input, format_args!("{name}, line {line}: {e}")))
    };
    let questions: Vec<Question> = lines.map(question).collect::<Result<_, _>>()?;
    if questions.is_empty() {
        return Err(Failure::new(Exit::Input, format_args!("{name}: no question is in it")));
    }
    Ok(questions)
}

/// How questions are asked.
pub(crate) struct Asking<'a> {
    /// Positions for a question and its answer.
    pub(crate) context: Option<usize>,
    /// Most tokens of an answer.
    pub(crate) n: usize,
    pub(crate) engine: &'a EngineArguments,
    pub(crate) head_rows: &'a HeadRowsArguments,
    pub(crate) template: &'a TemplateArguments,
    /// Whether the scores are written as JSON.
    pub(crate) json: bool,
}

/// Asks all questions and prints how many answers were right.
pub(crate) fn ask(
    arguments: &Asking<'_>,
    model: &Model<'_>,
    tokenizer: &Tokenizer,
    (name, questions): (&str, &[Question]),
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let options = arguments.head_rows.apply(one_sequence(&model.config, arguments.context));
    let template = arguments.template.open(model, tokenizer)?;
    let scores = with_engine(model, options, None, arguments.engine, |engine, arena| {
        let drawing = arguments.engine.drawing(Sampling::GREEDY, arguments.head_rows);
        let mut answer = Answer::new(engine, drawing, tokenizer, interrupt, arena)?;
        answer.shows_progress = false;
        interrupt.busy();
        let mut scores = BTreeMap::<&str, Score>::new();
        let mut progress = Progress::count("asking", questions.len(), "questions");
        for (done, question) in (1..).zip(questions) {
            let score = scores.entry(&question.skill).or_default();
            let ids = question.ids(template.as_ref(), tokenizer);
            match ids.and_then(|ids| drawn(&mut answer, &ids, arguments.n)) {
                Ok(found) => score.count(question, found.trim()),
                Err(failure) if failure.exit == Exit::Input => {
                    let line = question.line;
                    log::warn!("{name}, line {line}: {failure}; the question is left out");
                    score.left_out += 1;
                }
                Err(failure) => return Err(failure),
            }
            progress.set(done);
        }
        Ok(scores)
    })?;
    if arguments.json { print_line(&scores) } else { write(&scores) }
}

/// The answer to a prompt.
fn drawn(answer: &mut Answer<'_, '_>, ids: &[u32], most: usize) -> Result<String, Failure> {
    let mut found = String::new();
    answer.prefill(ids, most)?;
    answer.decode(|text| {
        found.push_str(text);
        Ok(())
    })?;
    Ok(found)
}

/// The scores for people.
fn write(scores: &BTreeMap<&str, Score>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for (skill, Score { right, of, left_out }) in scores {
        let percent = 100.0 * *right as f64 / (*of).max(1) as f64;
        write!(out, "{:16} {right:5} of {of:5} right, {percent:5.1} %", line(skill))?;
        match left_out {
            0 => writeln!(out)?,
            n => writeln!(out, "; {n} left out")?,
        }
    }
    Ok(())
}

impl Score {
    fn count(&mut self, question: &Question, found: &str) {
        let right = found == question.answer.trim();
        if !right {
            let Question { skill, answer, line, .. } = question;
            log::info!("{skill}, line {line}: {answer:?} expected, {found:?} found");
        }
        self.right += usize::from(right);
        self.of += 1;
    }
}

impl Question {
    /// The question that a line asks; keys that are not named here may say more about it.
    fn parse(line: usize, text: &str) -> Result<Question, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| wrong_line(&e))?;
        let fields = value.as_object().ok_or("an object expected")?;
        let field = |key: &str| fields.get(key).filter(|value| !value.is_null());
        let text = |key: &str| match field(key).map(Value::as_str) {
            Some(None) => Err(format!("{key:?}: a text expected")),
            found => Ok(found.flatten().map(String::from)),
        };
        let needed = |key: &str| text(key)?.ok_or_else(|| format!("{key:?} expected"));
        let messages = match (text("prompt")?, field("messages")) {
            (Some(prompt), None) => vec![Message::new("user", prompt)],
            (None, Some(list)) => {
                messages(list).ok_or_else(|| format!("\"messages\": {MESSAGES}"))?
            }
            _ => return Err("either \"prompt\" or \"messages\" expected".into()),
        };
        Ok(Question { skill: needed("skill")?, messages, answer: needed("answer")?, line })
    }

    /// What the model is asked to continue.
    fn ids(
        &self,
        template: Option<&ChatTemplate>,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, Failure> {
        let prompt = match template {
            Some(template) => template.prompt(&self.messages)?,
            None => plain(&self.messages),
        };
        encode(tokenizer, &prompt)
    }
}
