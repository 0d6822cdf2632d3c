//! A model that answers requests of OpenAI's form, as the command line says.

use crate::engine::{EngineArguments, HeadRowsArguments};
use crate::exit::{Exit, Failure, OrExit};
use crate::hub;
use crate::number;
use crate::sampling::SamplingArguments;
use crate::sequences::Wanted;
use crate::template::TemplateArguments;
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use wick_core::{Approximation, Arena, Candidates, Engine, Options, StepError};
use wick_linux::host::{Model, one_sequence};
use wick_serve::Chat;
use wick_serve::constraint::Forms;
use wick_serve::service::{Ready, SamplingDefaults, Service, now};
use wick_session::{Failure as SessionFailure, Scheduler};
use wick_text::Tokenizer;

/// Tokens drafted in a step, if nobody says.
pub(crate) const DRAFTS: usize = 15;

/// What requests are answered with.
#[derive(Args)]
pub(crate) struct AnsweringArguments {
    /// Positions for prompt and answer of a request together [default: 4096, the model's own if that is less, or fewer where
    /// memory is scarce]
    #[arg(short, long, value_name = "N", value_parser = number::context())]
    context: Option<usize>,
    /// Tokens drafted for an answer in a step, where it says again what stood before it; 0 for none. The text is the same
    #[arg(long, value_name = "N", default_value_t = DRAFTS, value_parser = number::none_to(64))]
    drafts: usize,
    /// What clients call the model [default: its file's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Option<String>,
    /// File with what the model is told before a conversation that has no system message
    #[arg(long, value_name = "FILE")]
    system: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArguments,
    /// Most tokens of an answer where a request does not say; -1 for as many as there is room for
    #[arg(
        short,
        long = "tokens",
        alias = "n",
        value_name = "N",
        default_value = "-1",
        value_parser = number::tokens,
        allow_negative_numbers = true
    )]
    n: usize,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
    #[command(flatten)]
    head_rows: HeadRowsArguments,
}

impl AnsweringArguments {
    /// Refuses what several answers side by side cannot have.
    pub(crate) fn check(&self, parallel: usize) -> Result<(), Failure> {
        if parallel == 1 || self.engine.approximation() == Approximation::NONE {
            return Ok(());
        }
        let message = "what approximations give depends on who else is served: --parallel 1 expected beside them";
        Err(Failure::new(Exit::Usage, message))
    }

    /// How tokens are drawn where a request does not say.
    pub(crate) fn usual(&self) -> SamplingDefaults {
        self.sampling.usual()
    }

    /// What an engine holds for as many answers side by side as are wanted, or as memory allows.
    pub(crate) fn choose(
        &self,
        model: &Model<'_>,
        wanted: Wanted,
        engine: &EngineArguments,
    ) -> Options {
        let most = if self.check(wanted.most).is_ok() { wanted.most } else { 1 };
        let wanted = Wanted { most, may_shorten: self.context.is_none(), ..wanted };
        let of = |parallel| self.options(model, parallel);
        wanted.choose(of, |options| engine.place(model, options))
    }

    /// What an engine holds for so many answers side by side.
    fn options(&self, model: &Model<'_>, parallel: usize) -> Options {
        let options = self.head_rows.apply(one_sequence(&model.config, self.context));
        serving(Options { sequences: parallel, ..options }, self.drafts)
    }

    /// A scheduler for these answers.
    pub(crate) fn scheduler<'e>(
        &self,
        engine: Engine<'e>,
        arena: &mut Arena<'e>,
    ) -> Result<Scheduler<'e>, Failure> {
        let candidates = Candidates::new(engine.config().vocab, arena).or_exit(Exit::Memory)?;
        let mut scheduler = Scheduler::new(engine, candidates);
        scheduler.draft(self.drafts);
        Ok(scheduler)
    }

    /// How conversations are written, or why they cannot be, and what the model is told before them.
    pub(crate) fn open_texts(
        &self,
        model: &Model<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<(Result<Chat, String>, Option<String>), Failure> {
        let chat = match self.template.open(model, tokenizer)? {
            Some(template) => Ok(template.into_chat()),
            None => Err("the model has no chat template".into()),
        };
        let read = |path: &PathBuf| {
            let place = || format!("--system: the file {}", path.display());
            fs::read_to_string(path).with_context(place).or_exit(Exit::Usage)
        };
        Ok((chat, self.system.as_ref().map(read).transpose()?))
    }

    /// A model that answers.
    pub(crate) fn ready(
        &self,
        model: &Model<'_>,
        engine: &Engine<'_>,
        name: String,
        forms: Forms,
        service: &Service,
        silence: Option<Duration>,
    ) -> Result<Ready, Failure> {
        let tokenizer = Arc::clone(forms.tokenizer());
        let (chat, system) = self.open_texts(model, &tokenizer)?;
        let (config, options) = (engine.config(), engine.options());
        Ok(Ready {
            name,
            chat,
            system,
            context: options.context,
            vocab: config.vocab.min(tokenizer.len()),
            hidden: config.hidden,
            sequences: options.sequences,
            head_rows: options.head_rows,
            most: self.n,
            silence,
            created: now(),
            facts: facts(model, engine),
            room: Arc::clone(&service.room),
            usual: Arc::clone(&service.usual),
            forms,
            tokenizer,
        })
    }
}

/// `options` with a row of logits for each sequence and so many drafts.
pub(crate) fn serving(options: Options, drafts: usize) -> Options {
    Options { logits: options.batch.min(options.sequences + drafts), ..options }
}

/// What answers can be made to look like, arranged before anybody knows how much memory is left.
pub(crate) fn forms(tokenizer: Tokenizer) -> Forms {
    let forms = Forms::new(Arc::new(tokenizer));
    arrange(&forms);
    forms
}

/// Arranges forms, and gives back what only that took.
pub(crate) fn arrange(forms: &Forms) {
    forms.arrange();
    wick_linux::trim();
}

/// What clients call the model of a file, unless somebody says: its name without folder and ending.
pub(crate) fn name(path: Option<&Path>) -> String {
    let stem = |path: &Path| Some(path.file_stem()?.to_string_lossy().into_owned());
    path.map_or("nano".into(), |path| {
        hub::name(path).or_else(|| stem(path)).unwrap_or("model".into())
    })
}

/// Model, kernels and what the engine has, to be shown.
fn facts(model: &Model<'_>, engine: &Engine<'_>) -> Value {
    let options = engine.options();
    let metadata = model.metadata();
    let text = |key| metadata.get(key).and_then(|entry| entry.str().ok());
    let parameters = text("general.size_label").unwrap_or("");
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": model.files.name(),
        "name": text("general.name"),
        "parameter_size": parameters,
        "quantization": model.weights.layers[0].experts(wick_core::Part::Up).format().name(),
        "bytes": metadata.file_len(),
        "kernels": engine.kernels().name(),
        "threads": engine.parallel().threads(),
        "context": options.context,
        "parallel": options.sequences,
        "batch": options.batch,
        "streams_experts": engine.expert_figures().is_some(),
    })
}

/// Says what has failed; of an expert that could not be read, in which file.
pub(crate) fn naming<'a>(model: &'a Model<'_>) -> impl Fn(&SessionFailure) -> String + 'a {
    |failure| match failure {
        SessionFailure::Step(StepError::Store(error)) => model.files.unread(*error).to_string(),
        _ => failure.to_string(),
    }
}
