//! Text that knows which of it a user wrote.

use super::budget::Budget;
use super::error::Result;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// What a text costs beside its bytes.
const OVERHEAD: usize = 64;

/// A text, and which of its bytes came from outside of the template.
///
/// Whatever is made of a user's text is the user's: parts of it, its capitals, its quoted form.
#[derive(Clone, Debug)]
pub struct Text {
    text: Arc<str>,
    marks: Marks,
}

/// Which bytes are the user's.
#[derive(Clone, Debug)]
enum Marks {
    None,
    All,
    /// Ranges in order and apart.
    Some(Arc<[Range<usize>]>),
}

impl Text {
    /// A text that the template itself wrote, or that is trusted as that.
    pub fn trusted(text: impl Into<Arc<str>>) -> Text {
        Text { text: text.into(), marks: Marks::None }
    }

    /// A text from outside.
    pub fn user(text: impl Into<Arc<str>>) -> Text {
        Text { text: text.into(), marks: Marks::All }
    }

    /// A text from outside, or not.
    pub(crate) fn of(text: impl Into<Arc<str>>, user: bool) -> Text {
        if user { Text::user(text) } else { Text::trusted(text) }
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.text.clone()
    }

    /// Whether anything in this range is the user's; where the range is empty, anything at all.
    pub(crate) fn is_user(&self, range: &Range<usize>) -> bool {
        match &self.marks {
            Marks::None => false,
            Marks::All => true,
            Marks::Some(_) if range.is_empty() => true,
            Marks::Some(marks) => {
                let next = marks.get(marks.partition_point(|mark| mark.end <= range.start));
                next.is_some_and(|mark| mark.start < range.end)
            }
        }
    }

    /// Whether any of it is the user's.
    pub(crate) fn has_user(&self) -> bool {
        self.is_user(&(0..self.len()))
    }

    /// The text in pieces that one side wrote each, and whether that was the user.
    pub(crate) fn runs(&self, range: Range<usize>) -> Vec<(Range<usize>, bool)> {
        let marks = match &self.marks {
            Marks::None => return vec![(range, false)],
            Marks::All => return vec![(range, true)],
            Marks::Some(marks) => marks,
        };
        let mut runs = Vec::new();
        let mut at = range.start;
        for mark in &marks[marks.partition_point(|mark| mark.end <= range.start)..] {
            if mark.start >= range.end {
                break;
            }
            let (start, end) = (mark.start.max(range.start), mark.end.min(range.end));
            if at < start {
                runs.push((at..start, false));
            }
            runs.push((start..end, true));
            at = end;
        }
        if at < range.end {
            runs.push((at..range.end, false));
        }
        runs
    }

    /// A part of it.
    pub(crate) fn slice(&self, range: Range<usize>, budget: &Budget) -> Result<Text> {
        if range == (0..self.len()) {
            return Ok(self.clone());
        }
        if let Marks::Some(_) = self.marks {
            let mut builder = Builder::new(budget);
            builder.push_slice(self, range)?;
            return builder.finish();
        }
        budget.take(range.len() + OVERHEAD)?;
        Ok(Text { text: self.text[range].into(), marks: self.marks.clone() })
    }

    /// Each piece that one side wrote, changed.
    pub(crate) fn map(&self, budget: &Budget, mut f: impl FnMut(&str) -> String) -> Result<Text> {
        let mut builder = Builder::new(budget);
        for (range, user) in self.runs(0..self.len()) {
            builder.push_as(&f(&self[range]), user)?;
        }
        builder.finish()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Text {
    /// Whoever wrote it.
    fn eq(&self, other: &Text) -> bool {
        self.text == other.text
    }
}

/// A text on the way. Each byte is paid for before it is there.
pub(crate) struct Builder<'b> {
    text: String,
    user: Vec<Range<usize>>,
    budget: &'b Budget,
    is_output: bool,
}

impl<'b> Builder<'b> {
    pub(crate) fn new(budget: &'b Budget) -> Builder<'b> {
        Builder { text: String::new(), user: Vec::new(), budget, is_output: false }
    }

    /// The text of the whole template, which has a bound of its own.
    pub(crate) fn output(budget: &'b Budget) -> Builder<'b> {
        Builder { is_output: true, ..Builder::new(budget) }
    }

    /// Appends what the template wrote.
    pub(crate) fn push_str(&mut self, text: &str) -> Result<()> {
        self.push_as(text, false)
    }

    /// Appends what the user wrote, or the template.
    pub(crate) fn push_as(&mut self, text: &str, user: bool) -> Result<()> {
        self.budget.take(text.len())?;
        if self.is_output {
            self.budget.check_output(self.text.len() + text.len())?;
        }
        if user && !text.is_empty() {
            self.mark(text.len())?;
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Marks what comes next.
    fn mark(&mut self, bytes: usize) -> Result<()> {
        let start = self.text.len();
        match self.user.last_mut() {
            Some(last) if last.end == start => last.end += bytes,
            _ => {
                self.budget.take(size_of::<Range<usize>>())?;
                self.user.push(start..start + bytes);
            }
        }
        Ok(())
    }

    /// Appends a text, whoever wrote it.
    pub(crate) fn push(&mut self, text: &Text) -> Result<()> {
        self.push_slice(text, 0..text.len())
    }

    /// Appends a part of a text.
    pub(crate) fn push_slice(&mut self, text: &Text, range: Range<usize>) -> Result<()> {
        for (run, user) in text.runs(range) {
            self.push_as(&text[run], user)?;
        }
        Ok(())
    }

    /// Appends a text so many times.
    pub(crate) fn push_times(&mut self, text: &Text, times: usize) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        for _ in 0..times {
            self.budget.step()?;
            self.push(text)?;
        }
        Ok(())
    }

    /// The text, and the ranges of bytes in it that are the user's.
    pub(crate) fn into_parts(self) -> (String, Vec<Range<usize>>) {
        (self.text, self.user)
    }

    pub(crate) fn finish(self) -> Result<Text> {
        self.budget.take(self.text.len() + OVERHEAD)?;
        let (text, user) = (self.text, self.user);
        let marks = match user.as_slice() {
            [] => Marks::None,
            [all] if *all == (0..text.len()) => Marks::All,
            _ => Marks::Some(user.into()),
        };
        Ok(Text { text: text.into(), marks })
    }
}
