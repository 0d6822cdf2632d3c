//! A model ready to run: steps batches of tokens through the forward pass.

use crate::arena::Arena;
use crate::arrangement::Arranger;
use crate::config::Config;
use crate::engine_error::EngineError;
use crate::experts::Experts;
use crate::figures::ExpertFigures;
use crate::kv::{KV_TILE, KvCache, KvLayout, TileBytes, TileError, TruncateError};
use crate::loan::Loan;
use crate::options::Options;
use crate::parallel::Parallel;
use crate::pass::Pass;
use crate::policy::Policy;
use crate::products::Products;
use crate::scratch::Scratch;
use crate::step_error::StepError;
use crate::store::{ExpertKey, ExpertStore, StoreFigures};
use crate::token::{Logits, Token};
use crate::weights::Weights;
use bytemuck::cast_slice_mut;
use core::fmt;
use wick_kernels::{Kernels, scalar};

/// The KV cache and the scratch of an engine, cut from one arena.
#[derive(Debug)]
struct State<'m> {
    options: Options,
    kv: KvCache<'m>,
    scratch: Scratch<'m>,
    /// Tokens of the last step.
    tokens: usize,
    /// Rows of logits that the last step left.
    wanted: usize,
}

impl<'m> State<'m> {
    fn new(
        config: &Config,
        weights: &Weights<'_>,
        options: Options,
        arena: &mut Arena<'m>,
    ) -> Result<State<'m>, EngineError> {
        config.validate()?;
        weights.validate(config)?;
        weights.check_layouts()?;
        options.validate()?;
        options.kv.check(config.head)?;
        options.head_rows.check(weights)?;
        let kv = KvCache::new(KvLayout::new(config, &options), options.sequences, arena)?;
        let scratch = Scratch::new(config, weights, &options, arena)?;
        Ok(State { options, kv, scratch, tokens: 0, wanted: 0 })
    }
}

/// A model with its state, its kernels and its threads.
pub struct Engine<'m> {
    config: Config,
    weights: &'m Weights<'m>,
    /// Has the weights in place of `weights`, where there is one.
    arranger: Option<&'m mut dyn Arranger>,
    state: State<'m>,
    experts: Experts<'m>,
    /// What slots may have of the state's memory, where there are spare ones.
    loan: Option<Loan>,
    products: Products<'m>,
}

impl<'m> Engine<'m> {
    /// An engine for `options` with every sequence empty. Its KV cache and scratch are cut from
    /// `arena`, which needs [`crate::Plan::arena`] bytes (candidates of samplers included).
    pub fn new(
        config: Config,
        weights: &'m Weights<'m>,
        options: Options,
        arena: &mut Arena<'m>,
        kernels: &'m Kernels,
        parallel: &'m dyn Parallel,
    ) -> Result<Engine<'m>, EngineError> {
        Engine::with_experts(config, weights, options, None, arena, kernels, parallel)
    }

    /// An engine whose experts are read through a store. Those of `weights` are not touched; they
    /// tell shapes and formats. The arena needs the bytes of a plan for as many slots
    /// ([`crate::Plan::streaming`]).
    ///
    /// # Errors
    /// As [`Engine::new`], and [`EngineError::Slots`] if the store has none.
    pub fn streaming(
        config: Config,
        weights: &'m Weights<'m>,
        options: Options,
        (store, policy): (&'m mut dyn ExpertStore, &'m dyn Policy),
        arena: &mut Arena<'m>,
        kernels: &'m Kernels,
        parallel: &'m dyn Parallel,
    ) -> Result<Engine<'m>, EngineError> {
        if store.slots().count == 0 {
            return Err(EngineError::Slots);
        }
        let store = Some((store, policy));
        Engine::with_experts(config, weights, options, store, arena, kernels, parallel)
    }

    fn with_experts(
        config: Config,
        weights: &'m Weights<'m>,
        options: Options,
        store: Option<(&'m mut dyn ExpertStore, &'m dyn Policy)>,
        arena: &mut Arena<'m>,
        kernels: &'m Kernels,
        parallel: &'m dyn Parallel,
    ) -> Result<Engine<'m>, EngineError> {
        let state = State::new(&config, weights, options, arena)?;
        let experts = Experts::new(&config, store, arena)?;
        let spare = experts.slots().filter(|slots| slots.spare > 0);
        let loan = spare.map(|slots| Loan::new(&config, weights, &options, slots));
        let products = Products { kernels, parallel };
        Ok(Engine { config, weights, arranger: None, state, experts, loan, products })
    }

    /// Goes on with the weights of `arranger`, which are those that the engine was made with, and
    /// perhaps not yet arranged.
    pub fn arrange_with(&mut self, arranger: &'m mut dyn Arranger) {
        self.arranger = Some(arranger);
    }

    /// Arranges up to so many of the sections of the model (a layer, or what comes after them) that
    /// are not arranged yet, and returns how many are left. Steps are faster then, with the same
    /// results.
    pub fn arrange(&mut self, most: usize) -> usize {
        self.arranger.as_deref_mut().map_or(0, |arranger| arranger.arrange(most))
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The model's tensors.
    pub fn weights(&self) -> &Weights<'_> {
        self.arranger.as_deref().map_or(self.weights, Arranger::weights)
    }

    /// What the engine holds.
    pub fn options(&self) -> &Options {
        &self.state.options
    }

    /// The kernels it computes with.
    pub fn kernels(&self) -> &'m Kernels {
        self.products.kernels
    }

    /// The threads it computes on.
    pub fn parallel(&self) -> &'m dyn Parallel {
        self.products.parallel
    }

    /// Appends the tokens of `batch` to their sequences, in one pass over the weights. The logits
    /// that were wanted are in [`Engine::logits`] until the next step.
    ///
    /// # Errors
    /// A batch that cannot be run is refused before anything changes. Where an expert cannot be read
    /// ([`StepError::Store`]), or what is computed shows that the model is damaged
    /// ([`StepError::Damaged`]), the sequences whose tokens it concerns are as they were, and
    /// [`Engine::failure`] names them; the others have been stepped as ever.
    pub fn step(&mut self, batch: &[Token]) -> Result<(), StepError> {
        self.check(batch)?;
        let State { kv, scratch, .. } = &mut self.state;
        for (token, position) in batch.iter().zip(scratch.tokens.positions.iter_mut()) {
            *position = kv.push(token.sequence);
        }
        self.make_room(batch.len());
        let State { options, kv, scratch, tokens, wanted } = &mut self.state;
        *tokens = batch.len();
        *wanted = batch.iter().filter(|token| token.wants_logits()).count();
        if batch.is_empty() {
            return Ok(());
        }
        let arranger = self.arranger.as_deref();
        let weights = arranger.map_or(self.weights, Arranger::weights);
        let (config, head_rows, products) = (&self.config, options.head_rows, self.products);
        let pass = Pass { config, weights, head_rows, products, arranger };
        let done = pass.forward(batch, kv, &mut self.experts, scratch);
        let checked = arranger.map_or(Ok(()), Arranger::check);
        if checked.is_err() {
            // Whatever else went wrong came of it.
            scratch.tokens.begin(batch.len());
        }
        if let Err(error) = checked.map_err(StepError::from).and(done) {
            scratch.tokens.fail(0..batch.len(), error);
            *wanted = 0;
        }
        self.take_failures_back(batch)
    }

    /// Has spare slots make room for what a step touches for the first time, or use what is not touched any more.
    fn make_room(&mut self, tokens: usize) {
        if self.loan.as_mut().is_some_and(|loan| loan.step(tokens)) {
            let activations = self.state.scratch.activations();
            activations.into_iter().for_each(|slice| self.experts.release(cast_slice_mut(slice)));
        }
        self.lend();
    }

    /// Lends to spare slots what is not touched.
    fn lend(&mut self) {
        let (Some(loan), kv) = (&self.loan, &self.state.kv) else { return };
        let (bytes, touched) = kv.touched(loan.page());
        self.experts.lend(loan.slots(bytes.saturating_sub(touched)));
    }

    /// Takes the tokens that failed off their sequences.
    fn take_failures_back(&mut self, batch: &[Token]) -> Result<(), StepError> {
        let State { kv, scratch, .. } = &mut self.state;
        let mut first = None;
        for (t, token) in batch.iter().enumerate() {
            if let Some(error) = scratch.tokens.failure(t) {
                kv.pop(token.sequence);
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Why the `i`-th token of the last step failed, if it did. With a token all of its sequence fail
    /// that were in the step.
    pub fn failure(&self, i: usize) -> Option<StepError> {
        (i < self.state.tokens).then(|| self.state.scratch.tokens.failure(i)).flatten()
    }

    /// Appends `ids` to a sequence, as many at a time as a batch takes. The logits that follow the
    /// last one, as far as they are wanted, are then the only ones in [`Engine::logits`].
    ///
    /// # Errors
    /// As [`Engine::step`]; what was appended before an expert could not be read stays.
    pub fn prefill(
        &mut self,
        sequence: usize,
        ids: &[u32],
        logits: Logits,
    ) -> Result<(), StepError> {
        self.check_room(sequence, ids.len())?;
        ids.iter().try_for_each(|id| self.check_id(*id))?;
        let mut tokens = heapless::Vec::<Token, PREFILL>::new();
        let batch = self.state.options.batch.min(PREFILL);
        for (i, chunk) in ids.chunks(batch).enumerate() {
            tokens.clear();
            tokens.extend(chunk.iter().map(|id| Token::new(*id, sequence, Logits::None)));
            if let Some(last) = tokens.last_mut().filter(|_| i * batch + chunk.len() == ids.len()) {
                last.logits = logits;
            }
            self.step(&tokens)?;
        }
        Ok(())
    }

    /// Logits that follow the `i`-th token of the last step that wanted them, one for each entry
    /// of the vocabulary; `None` if there were fewer, or the token failed.
    pub fn logits(&self, i: usize) -> Option<&[f32]> {
        let State { scratch: Scratch { lm_head, tokens, .. }, wanted, .. } = &self.state;
        let row = (i < *wanted).then(|| lm_head.row_of[i])?;
        let vocab = self.config.vocab;
        let is_there = !tokens.has_failed(lm_head.token_of[row]);
        is_there.then(|| &lm_head.logits[row * vocab..][..vocab])
    }

    /// The experts that the last step chose in a layer: for each token as many as are active, the
    /// best first.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn chosen_experts(&self, layer: usize) -> &[u32] {
        let State { scratch, tokens, .. } = &self.state;
        &scratch.router.chosen[layer * scratch.router.pairs..][..tokens * self.config.active]
    }

    /// How experts were found and read so far; `None` if all stand in memory.
    pub fn expert_figures(&self) -> Option<&ExpertFigures> {
        self.experts.figures()
    }

    /// What was read for experts so far; `None` if all stand in memory.
    pub fn store_figures(&self) -> Option<StoreFigures> {
        self.experts.store_figures()
    }

    /// Slots beyond those of the plan that experts have at the moment, in memory that keys, values and activations have
    /// not touched.
    pub fn lent_slots(&self) -> usize {
        self.experts.lent()
    }

    /// What an expert is worth to its slot, a number to compare with those of others; `None` if it was never used, or all
    /// experts stand in memory.
    ///
    /// # Panics
    /// If there is no such expert.
    pub fn expert_worth(&self, key: ExpertKey) -> Option<f64> {
        self.experts.worth(key)
    }

    /// Begins to read an expert between steps that nobody wants yet, so that it is there when somebody does: into an empty
    /// slot alone; `false` if there is none. It gives its slot up as if it were worth `worth`; a use at the beginning is worth
    /// 0 or more.
    ///
    /// # Panics
    /// If there is no such expert.
    pub fn preload(&mut self, key: ExpertKey, worth: f64) -> bool {
        self.experts.preload(key, worth)
    }

    /// Neurons that were not zero in the experts that the last step chose in a layer, of
    /// `tokens · active · expert_width`.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn active_neurons(&self, layer: usize) -> usize {
        match self.state.tokens {
            0 => 0,
            _ => self.state.scratch.ffn.active_neurons[layer],
        }
    }

    /// The residual stream that left the last layer, of the `i`-th token of the last step; `None` if
    /// there were fewer.
    pub fn residual(&self, i: usize) -> Option<&[f32]> {
        let hidden = self.config.hidden;
        (i < self.state.tokens).then(|| &self.state.scratch.stream.residual[i * hidden..][..hidden])
    }

    /// Writes the hidden state of the `i`-th token of the last step into a row of [`Config::hidden`] values: the residual
    /// stream that left the last layer, normalized as the LM head takes it in (RMSNorm). Returns whether there is one; not
    /// of a token that failed.
    ///
    /// # Panics
    /// If the row has another length.
    pub fn hidden_state(&mut self, i: usize, row: &mut [f32]) -> bool {
        let weights = self.arranger.as_deref().map_or(self.weights, Arranger::weights);
        let State { scratch: Scratch { stream, tokens, .. }, tokens: n, .. } = &mut self.state;
        let hidden = self.config.hidden;
        let is_there = i < *n && !tokens.has_failed(i);
        if is_there {
            weights.output_norm.dequantize_row(0, stream.norm);
            let residual = &stream.residual[i * hidden..][..hidden];
            scalar::rms_norm(residual, stream.norm, self.config.rms_eps, row);
        }
        is_there
    }

    /// Rows of the LM head that the last step multiplied, those of all its logits together.
    pub fn lm_head_rows(&self) -> usize {
        self.state.scratch.lm_head.multiplied
    }

    /// Positions that a sequence holds.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn len(&self, sequence: usize) -> usize {
        self.state.kv.len(sequence)
    }

    /// Whether a sequence holds nothing.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn is_empty(&self, sequence: usize) -> bool {
        self.len(sequence) == 0
    }

    /// Forgets the positions of a sequence from `len` on. To 0 is always possible; otherwise the
    /// windowed layers must still hold what the next token would see, which they do for at least
    /// [`Options::batch`] positions back from the longest that the sequence has been.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn truncate(&mut self, sequence: usize, len: usize) -> Result<(), TruncateError> {
        self.state.kv.truncate(sequence, len)?;
        if self.loan.is_some()
            && let Some(memory) = self.state.kv.vacate(sequence)
        {
            self.experts.release(memory);
        }
        Ok(())
    }

    /// Has sequence `to` hold the first `len` positions of `from`, in place of what it held: what prompts begin with in common
    /// is computed once. The windowed layers of `from` must still hold what the next position would see, as for
    /// [`Engine::truncate`].
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn copy(&mut self, from: usize, to: usize, len: usize) -> Result<(), TruncateError> {
        self.state.kv.expect_copy(from, to);
        self.lend();
        self.state.kv.copy(from, to, len)
    }

    /// Bytes of a tile of the KV cache, which is [`KV_TILE`](crate::KV_TILE) positions of a sequence.
    pub fn tile_bytes(&self) -> TileBytes {
        self.state.kv.tile_bytes()
    }

    /// Copies a tile of a sequence to the beginning of `into`, which has room for a whole one; returns how many bytes that are:
    /// those of the layers that see everything alone, if windowed layers have forgotten some of the tile. `None` if the
    /// sequence does not hold all of its positions. Nothing in the bytes depends on how long context and batch are.
    ///
    /// # Panics
    /// If there is no such sequence, or `into` is too small.
    pub fn save_tile(&self, sequence: usize, tile: usize, into: &mut [u8]) -> Option<usize> {
        self.state.kv.save_tile(sequence, tile, into)
    }

    /// Appends a tile to a sequence, as [`Engine::save_tile`] gave it: the next one of those that make up a beginning. Before
    /// the next step, [`Engine::truncate`] to the length that the sequence has then tells whether windowed layers have all
    /// that this would see.
    ///
    /// # Errors
    /// It does not go there, or is none; the sequence is as it was.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn load_tile(&mut self, sequence: usize, bytes: &[u8]) -> Result<(), TileError> {
        self.state.kv.expect(sequence, self.state.kv.len(sequence) + KV_TILE);
        self.lend();
        self.state.kv.load_tile(sequence, bytes)
    }

    fn check(&self, batch: &[Token]) -> Result<(), StepError> {
        let Options { batch: most, logits, .. } = self.state.options;
        if batch.len() > most {
            return Err(StepError::Batch { found: batch.len(), most });
        }
        let found = batch.iter().filter(|token| token.wants_logits()).count();
        if found > logits {
            return Err(StepError::Logits { found, most: logits });
        }
        for (i, token) in batch.iter().enumerate() {
            self.check_id(token.id)?;
            let before = batch[..i].iter().filter(|t| t.sequence == token.sequence).count();
            self.check_room(token.sequence, before + 1)?;
        }
        Ok(())
    }

    fn check_id(&self, id: u32) -> Result<(), StepError> {
        let vocab = self.config.vocab;
        if (id as usize) < vocab { Ok(()) } else { Err(StepError::Id { id, vocab }) }
    }

    fn check_room(&self, sequence: usize, more: usize) -> Result<(), StepError> {
        let kv = &self.state.kv;
        if sequence >= kv.sequences() {
            return Err(StepError::Sequence { sequence, sequences: kv.sequences() });
        }
        let (held, context) = (kv.len(sequence), kv.context());
        if held + more > context {
            return Err(StepError::Full { sequence, held, more, context });
        }
        Ok(())
    }
}

/// Tokens that [`Engine::prefill`] hands over at a time, at most.
const PREFILL: usize = 512;

impl fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.config)
            .field("options", &self.state.options)
            .field("kernels", self.products.kernels)
            .finish_non_exhaustive()
    }
}
