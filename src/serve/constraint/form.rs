//! A grammar to the constraints of generations.

use super::error::FormError;
use super::grammar::Grammar;
use super::trigger::Trigger;
use super::vocabulary::Vocabulary;
use crate::room::{FORM, FormShare};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};
use std::fmt;
use std::sync::{Arc, OnceLock};
use wick_session::Constraint;
use wick_text::Tokenizer;

/// States of a form's lexer at most, which take 1 to 2 KB each.
const MOST_STATES: usize = FORM >> 11;

/// What a form may take: [`FORM`], and tens of milliseconds for a token.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: MOST_STATES,
        max_grammar_size: 100_000,
        initial_lexer_fuel: 500_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Texts that many tokens are and that are allowed at once within JSON's strings.
const SLICE: &str = r#"[^"\\\x00-\x1F\x7F]+"#;

/// Compiles forms for a model, once its tokens are arranged for that.
pub struct Forms {
    pub(super) tokenizer: Arc<Tokenizer>,
    factory: OnceLock<Result<ParserFactory, FormError>>,
}

impl Forms {
    /// Forms of texts that this tokenizer writes.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Forms {
        Forms { tokenizer, factory: OnceLock::new() }
    }

    /// What writes their texts.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Arranges the tokens, if that is not done yet.
    pub fn arrange(&self) {
        let _first = self.factory();
    }

    fn factory(&self) -> &Result<ParserFactory, FormError> {
        self.factory.get_or_init(|| factory(&self.tokenizer))
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// Something in it is not supported, or it would take too much.
    pub(super) fn compile(&self, grammar: TopLevelGrammar) -> Result<Form, FormError> {
        let factory = self.factory().as_ref().map_err(FormError::clone)?;
        let parser = factory.create_parser(grammar).map_err(|e| FormError::of_grammar(&e))?;
        let mut matcher = Matcher::new(Ok(parser));
        // Whatever is too much for the first token is found now.
        let _first = matcher.compute_mask().map_err(|e| FormError::of_grammar(&e))?;
        Ok(Form { matcher, text: None, share: None })
    }
}

fn factory(tokenizer: &Arc<Tokenizer>) -> Result<ParserFactory, FormError> {
    let tokens: TokEnv = Arc::new(Vocabulary::new(tokenizer)?);
    let can = InferenceCapabilities::default();
    let factory = ParserFactory::new(&tokens, can, &[SLICE.into()]);
    let mut factory = factory.map_err(|error| FormError::of_grammar(&error))?;
    *factory.quiet().limits_mut() = limits();
    Ok(factory)
}

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forms").finish_non_exhaustive()
    }
}

/// A form that answers must have, compiled.
pub struct Form {
    matcher: Matcher,
    /// Who writes the text that may come first, if any may.
    text: Option<Arc<Tokenizer>>,
    /// Memory that its states may take.
    share: Option<Arc<FormShare>>,
}

impl Form {
    /// The same with memory that its states may take.
    pub(crate) fn with(self, share: FormShare) -> Form {
        Form { share: Some(Arc::new(share)), ..self }
    }

    /// What keeps one generation to it, from its beginning.
    pub fn constraint(&self) -> Box<dyn Constraint> {
        let matcher = self.matcher.deep_clone();
        let grammar = Grammar::new(matcher, self.share.clone());
        match &self.text {
            None => Box::new(grammar),
            Some(tokenizer) => Box::new(Trigger::new(grammar, Arc::clone(tokenizer))),
        }
    }

    /// The same after any text, once a call begins.
    pub(super) fn after_text(self, tokenizer: &Arc<Tokenizer>) -> Form {
        Form { text: Some(Arc::clone(tokenizer)), ..self }
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").finish_non_exhaustive()
    }
}
