//! `wick inspect`: what is in a file, and how it would run.

use crate::exit::Failure;
use crate::memory::Mib;
use crate::model::{FileArguments, tokenizer};
use crate::number;
use crate::report::print;
use crate::screen::line;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use wick_core::{Config, Down, Gating, Part, Plan};
use wick_format::{GgmlType, Gguf, Overrides};
use wick_linux::Cpus;
use wick_linux::host::{Files, Footprint, Model, Placement, one_sequence};
use wick_text::Tokenizer;

/// Show what is in a model's file, and how it would run here, or why it cannot
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Positions for prompt and answer together [default: 4096, or the model's own if that is less]
    #[arg(short, long, value_name = "N", value_parser = number::context())]
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
    architecture: Option<String>,
    /// Why wick cannot run the model, if it cannot; its shape and what it takes are not known then.
    refusal: Option<String>,
    /// Layout of the LM head of a packed file.
    packed: Option<&'static str>,
    /// Version of a packed file, and which model it is.
    packed_version: Option<u32>,
    identity: Option<String>,
    parameters: usize,
    shape: Option<Shape>,
    tensors: usize,
    unused_tensors: Vec<String>,
    types: BTreeMap<String, TypeTotal>,
    tokenizer: Option<TokenizerReport>,
    memory: Option<Memory>,
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
    program: usize,
    total: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let files = arguments.file.open()?;
    let parts = files.parse()?;
    let report = report(&files, &parts, arguments.context)?;
    print(&report, arguments.json, |report, out| report.write(out))
}

/// What is known of files, whether wick can run the model in them or not.
fn report(files: &Files, parts: &[Gguf<'_>], context: Option<usize>) -> Result<Report, Failure> {
    let (model, refusal) = match files.model(Overrides::default()) {
        Ok(model) => (Some(model), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let metadata = &parts[0];
    let text = |key| metadata.get(key).and_then(|e| e.str().ok()).map(str::to_owned);
    let file = model.as_ref().map(Model::format).transpose()?;
    let both = file.as_ref().zip(model.as_ref());
    let types = types(parts, both);
    let unused = both.into_iter().flat_map(|(file, model)| file.unused(model.config.layers));
    let packed = file.as_ref().and_then(|file| file.packed());
    Ok(Report {
        file: files.name().into(),
        name: text("general.name"),
        files: parts.len(),
        bytes: parts.iter().map(|part| part.file_len() as usize).sum(),
        gguf_version: metadata.version(),
        alignment: metadata.alignment(),
        architecture: text("general.architecture"),
        refusal,
        packed: packed.and(model.as_ref()).map(|model| model.weights.lm_head().layout().name()),
        packed_version: packed.map(|packed| packed.version()),
        identity: packed.map(|packed| packed.identity().to_string()),
        parameters: types.values().map(|total| total.weights).sum(),
        shape: model.as_ref().map(shape),
        tensors: parts.iter().map(Gguf::tensor_count).sum(),
        unused_tensors: unused.map(|t| t.name().to_owned()).collect(),
        types,
        tokenizer: tokenizer(files, metadata).ok().map(|tokenizer| describe(&tokenizer, metadata)),
        memory: model.as_ref().map(|model| memory(model, context)).transpose()?,
        kernels: wick_linux::kernels().name(),
        processor_features: wick_linux::features(),
        threads: Cpus::detect().threads(),
    })
}

/// What there is of each type; the matrices of packed experts count as the tensors that they were.
fn types(
    parts: &[Gguf<'_>],
    model: Option<(&wick_format::Model<'_, '_>, &Model<'_>)>,
) -> BTreeMap<String, TypeTotal> {
    let mut types = BTreeMap::<_, TypeTotal>::new();
    let mut add = |number, weights, bytes| {
        let total = types.entry(GgmlType(number).to_string()).or_default();
        total.tensors += 1;
        total.weights += weights;
        total.bytes += bytes;
    };
    let packed = model.and_then(|(file, model)| Some((file.packed()?, model)));
    let tensors = parts.iter().flat_map(Gguf::tensors);
    for tensor in tensors.filter(|t| packed.is_none_or(|(packed, _)| !packed.is_own(t))) {
        let bytes = tensor.stored_bytes().unwrap_or(0);
        add(tensor.number(), tensor.dims().elements(), bytes);
    }
    for layer in packed.iter().flat_map(|(_, model)| &model.weights.layers) {
        for matrices in Part::ALL.map(|part| layer.experts(part)) {
            let weights = matrices.count() * matrices.rows() * matrices.cols();
            add(matrices.format().ggml(), weights, matrices.size());
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

fn describe(tokenizer: &Tokenizer, metadata: &Gguf<'_>) -> TokenizerReport {
    TokenizerReport {
        entries: tokenizer.len(),
        memory: tokenizer.heap_bytes(),
        bos: tokenizer.bos(),
        eos: tokenizer.eos(),
        end: (0..tokenizer.len() as u32).filter(|id| tokenizer.is_end(*id)).collect(),
        adds_bos: tokenizer.prefix().is_some(),
        chat_template: metadata.get("tokenizer.chat_template").is_some(),
    }
}

fn memory(model: &Model<'_>, context: Option<usize>) -> Result<Memory, Failure> {
    let options = one_sequence(&model.config, context);
    let placement = Placement::choose(model, options, None, false)?;
    let Plan { weights, kv, scratch, sampler, .. } = placement.plan;
    let Footprint { program, total } = placement.footprint(None);
    Ok(Memory { context: options.context, weights, kv, scratch, sampler, program, total })
}

impl Report {
    /// The report for people.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mib = |bytes| Mib(bytes).to_string();
        writeln!(
            out,
            "file        {} ({} in {} file(s))",
            line(&self.file),
            mib(self.bytes),
            self.files
        )?;
        writeln!(out, "name        {}", line(self.name.as_deref().unwrap_or("none")))?;
        writeln!(
            out,
            "format      GGUF version {}, alignment {}",
            self.gguf_version, self.alignment
        )?;
        if let Some(refusal) = &self.refusal {
            writeln!(
                out,
                "model       {}",
                line(self.architecture.as_deref().unwrap_or("unknown"))
            )?;
            writeln!(out, "cannot run  {}", line(refusal))?;
        }
        if let (Some(output), Some(version), Some(identity)) =
            (self.packed, self.packed_version, &self.identity)
        {
            writeln!(out, "packed      version {version}, LM head {output}, identity {identity}")?;
        }
        writeln!(out, "parameters  {:.3} M", self.parameters as f64 / 1e6)?;
        if let Some(shape) = &self.shape {
            shape.write(out)?;
        }
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
            writeln!(out, "  not used  {}", line(name))?;
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
        if let Some(m) = &self.memory {
            writeln!(
                out,
                "memory      {} for a context of {}: weights {}, KV cache {}, scratch {}, sampler {}, \
                 program {}",
                mib(m.total),
                m.context,
                mib(m.weights),
                mib(m.kv),
                mib(m.scratch),
                mib(m.sampler),
                mib(m.program)
            )?;
            writeln!(out, "runs with   {} kernels, {} threads", self.kernels, self.threads)?;
        }
        writeln!(out, "processor   {}", self.processor_features.join(" "))
    }
}

impl Shape {
    /// The shape for people.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "shape       {} layers of {}; {} query and {} KV heads of {}; vocabulary {}",
            self.layers, self.hidden, self.heads, self.kv_heads, self.head, self.vocabulary
        )?;
        writeln!(
            out,
            "experts     {} of {} neurons in a layer, {} for a token, {} router",
            self.experts, self.expert_width, self.active_experts, self.gating
        )?;
        match self.window {
            None => writeln!(out, "attention   every layer sees everything, with RoPE")?,
            Some(size) => writeln!(
                out,
                "attention   window of {size} with RoPE; layers {:?} see everything, without",
                self.global_layers
            )?,
        }
        writeln!(out, "context     {} positions; RoPE base {}", self.context, self.rope_base)?;
        writeln!(
            out,
            "output      {}",
            if self.tied_output { "tied to the embedding" } else { "own matrix" }
        )?;
        writeln!(out, "down        {}", self.down)
    }
}
