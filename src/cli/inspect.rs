//! `wick inspect`: what is in a file, and how it would run.

use crate::exit::{Exit, Failure, OrExit};
use crate::memory::Mib;
use crate::model::{FileArguments, tokenizer};
use crate::report::print;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use wick_core::{Config, Down, Gating, Part, Plan, Weights};
use wick_format::{Overrides, PACK_VERSION};
use wick_kernels::Format;
use wick_linux::Cpus;
use wick_linux::host::{Model, one_sequence};
use wick_text::Tokenizer;

/// Show what is in a model's file, and how it would run here
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Positions for prompt and answer together [default: 4096, or the model's own if that is less]
    #[arg(short, long, value_name = "N")]
    context: Option<usize>,
}

/// Everything that is shown.
#[derive(Serialize)]
struct Report {
    file: String,
    name: Option<String>,
    files: usize,
    bytes: usize,
    gguf_version: u32,
    alignment: usize,
    /// Layout of the LM head of a packed file.
    packed: Option<&'static str>,
    parameters: usize,
    shape: Shape,
    tensors: usize,
    unused_tensors: Vec<String>,
    types: BTreeMap<&'static str, TypeTotal>,
    tokenizer: Option<TokenizerReport>,
    memory: Memory,
    kernels: &'static str,
    processor_features: Vec<&'static str>,
    threads: usize,
}

#[derive(Serialize)]
struct Shape {
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    rope_dims: usize,
    rope_base: f32,
    experts: usize,
    active_experts: usize,
    expert_width: usize,
    gating: &'static str,
    vocabulary: usize,
    context: usize,
    rms_eps: f32,
    window: Option<usize>,
    global_layers: Vec<usize>,
    tied_output: bool,
    down: &'static str,
    profiler: bool,
}

#[derive(Default, Serialize)]
struct TypeTotal {
    tensors: usize,
    weights: usize,
    bytes: usize,
}

#[derive(Serialize)]
struct TokenizerReport {
    entries: usize,
    memory: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    end: Vec<u32>,
    adds_bos: bool,
    chat_template: bool,
}

/// Bytes of each part, for one sequence.
#[derive(Serialize)]
struct Memory {
    context: usize,
    weights: usize,
    kv: usize,
    scratch: usize,
    sampler: usize,
    total: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let files = arguments.file.open()?;
    let model = files.model(Overrides::default())?;
    let report = report(&model, arguments.context)?;
    print(&report, arguments.json, |report, out| report.write(out))
}

fn report(model: &Model<'_>, context: Option<usize>) -> Result<Report, Failure> {
    let (file, metadata) = (model.format()?, model.metadata());
    let types = types(&file, &model.weights);
    Ok(Report {
        file: model.files.name().into(),
        name: metadata.get("general.name").and_then(|e| e.str().ok()).map(str::to_owned),
        files: file.files().len(),
        bytes: file.bytes(),
        gguf_version: metadata.version(),
        alignment: metadata.alignment(),
        packed: file.packed().map(|_| model.weights.lm_head().layout().name()),
        parameters: types.values().map(|total| total.weights).sum(),
        shape: shape(model),
        tensors: file.tensors().count(),
        unused_tensors: file.unused(model.config.layers).map(|t| t.name().to_owned()).collect(),
        types,
        tokenizer: tokenizer(model.files, metadata)
            .ok()
            .map(|tokenizer| describe(&tokenizer, model)),
        memory: memory(model, context)?,
        kernels: wick_linux::kernels().name(),
        processor_features: wick_linux::features(),
        threads: Cpus::detect().threads(),
    })
}

/// What there is of each type; the matrices of packed experts count as the tensors that they were.
fn types(
    file: &wick_format::Model<'_, '_>,
    weights: &Weights<'_>,
) -> BTreeMap<&'static str, TypeTotal> {
    let mut types = BTreeMap::<_, TypeTotal>::new();
    let mut add = |format: Option<Format>, weights, bytes| {
        let total = types.entry(format.map_or("unknown", Format::name)).or_default();
        total.tensors += 1;
        total.weights += weights;
        total.bytes += bytes;
    };
    let packed = file.packed();
    for tensor in file.tensors().filter(|t| packed.is_none_or(|p| !p.has_experts(t))) {
        let bytes = tensor.bytes().map_or(0, <[u8]>::len);
        add(tensor.format(), tensor.dims().elements(), bytes);
    }
    for layer in weights.layers.iter().filter(|_| packed.is_some()) {
        for matrices in Part::ALL.map(|part| layer.experts(part)) {
            let weights = matrices.count() * matrices.rows() * matrices.cols();
            add(Some(matrices.format()), weights, matrices.size());
        }
    }
    types
}

fn shape(model: &Model<'_>) -> Shape {
    let Config { layers, window, gating, .. } = model.config;
    let weights = &model.weights;
    let c = &model.config;
    Shape {
        layers,
        hidden: c.hidden,
        heads: c.heads,
        kv_heads: c.kv_heads,
        head: c.head,
        rope_dims: c.rope_dims,
        rope_base: c.rope_base,
        experts: c.experts,
        active_experts: c.active,
        expert_width: c.expert_width,
        gating: match gating {
            Gating::Softmax => "softmax",
            Gating::Sigmoid => "sigmoid",
        },
        vocabulary: c.vocab,
        context: c.context,
        rms_eps: c.rms_eps,
        window: window.map(|w| w.size),
        global_layers: (0..layers).filter(|layer| c.layer_window(*layer).is_none()).collect(),
        tied_output: weights.is_tied(),
        down: match weights.layers[0].down {
            Down::Outputs(_) => "a row for each output",
            Down::Neurons(_) => "a row for each neuron",
        },
        profiler: weights.profiler.is_some(),
    }
}

fn describe(tokenizer: &Tokenizer, model: &Model<'_>) -> TokenizerReport {
    TokenizerReport {
        entries: tokenizer.len(),
        memory: tokenizer.heap_bytes(),
        bos: tokenizer.bos(),
        eos: tokenizer.eos(),
        end: (0..tokenizer.len() as u32).filter(|id| tokenizer.is_end(*id)).collect(),
        adds_bos: tokenizer.prefix().is_some(),
        chat_template: !model.chat_templates.is_empty(),
    }
}

fn memory(model: &Model<'_>, context: Option<usize>) -> Result<Memory, Failure> {
    let options = one_sequence(&model.config, context);
    let plan = Plan::new(&model.config, &model.weights, &options).or_exit(Exit::Usage)?;
    let Plan { weights, kv, scratch, sampler, .. } = plan;
    Ok(Memory { context: options.context, weights, kv, scratch, sampler, total: plan.total() })
}

impl Report {
    /// The report for people.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let s = &self.shape;
        let mib = |bytes| Mib(bytes).to_string();
        writeln!(out, "file        {} ({} in {} file(s))", self.file, mib(self.bytes), self.files)?;
        writeln!(out, "name        {}", self.name.as_deref().unwrap_or("none"))?;
        writeln!(
            out,
            "format      GGUF version {}, alignment {}",
            self.gguf_version, self.alignment
        )?;
        if let Some(output) = self.packed {
            writeln!(out, "packed      version {PACK_VERSION}, LM head {output}")?;
        }
        writeln!(out, "parameters  {:.3} M", self.parameters as f64 / 1e6)?;
        writeln!(
            out,
            "shape       {} layers of {}; {} query and {} KV heads of {}; vocabulary {}",
            s.layers, s.hidden, s.heads, s.kv_heads, s.head, s.vocabulary
        )?;
        writeln!(
            out,
            "experts     {} of {} neurons in a layer, {} for a token, {} router",
            s.experts, s.expert_width, s.active_experts, s.gating
        )?;
        match s.window {
            None => writeln!(out, "attention   every layer sees everything, with RoPE")?,
            Some(size) => writeln!(
                out,
                "attention   window of {size} with RoPE; layers {:?} see everything, without",
                s.global_layers
            )?,
        }
        writeln!(out, "context     {} positions; RoPE base {}", s.context, s.rope_base)?;
        writeln!(
            out,
            "output      {}",
            if s.tied_output { "tied to the embedding" } else { "own matrix" }
        )?;
        writeln!(out, "down        {}", s.down)?;
        writeln!(out, "tensors     {}", self.tensors)?;
        for (name, total) in &self.types {
            let weights = total.weights as f64 / 1e6;
            writeln!(
                out,
                "  {name:8}  {:4} tensors, {weights:9.3} M weights, {}",
                total.tensors,
                mib(total.bytes)
            )?;
        }
        for name in &self.unused_tensors {
            writeln!(out, "  not used  {name}")?;
        }
        match &self.tokenizer {
            None => writeln!(out, "tokenizer   none that wick knows")?,
            Some(t) => writeln!(
                out,
                "tokenizer   {} entries in {}; ends with {:?}; {} chat template",
                t.entries,
                mib(t.memory),
                t.end,
                if t.chat_template { "with" } else { "without" }
            )?,
        }
        let m = &self.memory;
        writeln!(
            out,
            "memory      {} for a context of {}: weights {}, KV cache {}, scratch {}, sampler {}",
            mib(m.total),
            m.context,
            mib(m.weights),
            mib(m.kv),
            mib(m.scratch),
            mib(m.sampler)
        )?;
        writeln!(out, "runs with   {} kernels, {} threads", self.kernels, self.threads)?;
        writeln!(out, "processor   {}", self.processor_features.join(" "))
    }
}
