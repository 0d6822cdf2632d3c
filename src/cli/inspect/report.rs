//! What is shown of one file.

use super::fits::Fits;
use super::shape::Shape;
use super::sizes::Sizes;
use super::tokenizer::TokenizerReport;
use crate::exit::Failure;
use crate::memory::Mib;
use crate::model::tokenizer;
use crate::screen::line;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use wick_core::{Part, Plan};
use wick_format::{GgmlType, Gguf, Overrides};
use wick_linux::Cpus;
use wick_linux::board::Board;
use wick_linux::host::{Files, Footprint, Model, Placement, chat_templates, one_sequence};

/// Everything that is shown.
#[derive(Serialize)]
pub(super) struct Report {
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
    /// Of all tensors; `None` if the size of a type is not known.
    bits_per_weight: Option<f64>,
    sizes: Option<Sizes>,
    shape: Option<Shape>,
    tensors: usize,
    unused_tensors: Vec<String>,
    types: BTreeMap<String, TypeTotal>,
    tokenizer: Option<TokenizerReport>,
    chat_templates: Vec<String>,
    memory: Option<Memory>,
    fits: Option<Fits>,
    kernels: &'static str,
    processor_features: Vec<&'static str>,
    threads: usize,
}

#[derive(Default, Serialize)]
struct TypeTotal {
    tensors: usize,
    weights: usize,
    bytes: usize,
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

impl Report {
    /// What is known of files, whether wick can run the model in them or not; `boards` are asked for if it can.
    pub(super) fn of(
        files: &Files,
        parts: &[Gguf<'_>],
        context: Option<usize>,
        boards: impl FnOnce() -> Vec<Board>,
    ) -> Result<Report, Failure> {
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
        // Held while the process is measured, as it will be.
        let tokenizer = tokenizer(files, metadata).ok();
        let templates = chat_templates(metadata).unwrap_or_default();
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
            bits_per_weight: bits_per_weight(&types),
            sizes: model.as_ref().map(Sizes::of),
            shape: model.as_ref().map(Shape::of),
            tensors: parts.iter().map(Gguf::tensor_count).sum(),
            unused_tensors: unused.map(|t| t.name().to_owned()).collect(),
            types,
            tokenizer: tokenizer.as_ref().map(|all| TokenizerReport::of(all, metadata)),
            chat_templates: templates.iter().map(|(name, _)| (*name).to_owned()).collect(),
            memory: model.as_ref().map(|model| memory(model, context)).transpose()?,
            fits: model.as_ref().map(|model| Fits::of(model, context, &boards())),
            kernels: wick_linux::kernels().name(),
            processor_features: wick_linux::features(),
            threads: Cpus::detect().threads(),
        })
    }

    /// The report for people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_file(out)?;
        self.write_weights(out)?;
        match &self.tokenizer {
            None => writeln!(out, "tokenizer   none that wick knows")?,
            Some(tokenizer) => tokenizer.write(out)?,
        }
        if !self.chat_templates.is_empty() {
            writeln!(out, "templates   {}", line(&self.chat_templates.join(", ")))?;
        }
        if let Some(memory) = &self.memory {
            memory.write(out)?;
            writeln!(out, "runs with   {} kernels, {} threads", self.kernels, self.threads)?;
        }
        writeln!(out, "processor   {}", self.processor_features.join(" "))?;
        self.fits.as_ref().map_or(Ok(()), |fits| fits.write(out))
    }

    /// What the file is.
    fn write_file(&self, out: &mut impl Write) -> io::Result<()> {
        let (file, bytes) = (line(&self.file), Mib(self.bytes));
        writeln!(out, "file        {file} ({bytes} in {} file(s))", self.files)?;
        writeln!(out, "name        {}", line(self.name.as_deref().unwrap_or("none")))?;
        let (version, alignment) = (self.gguf_version, self.alignment);
        writeln!(out, "format      GGUF version {version}, alignment {alignment}")?;
        if let Some(refusal) = &self.refusal {
            let architecture = self.architecture.as_deref().unwrap_or("unknown");
            writeln!(out, "model       {}", line(architecture))?;
            writeln!(out, "cannot run  {}", line(refusal))?;
        }
        if let (Some(output), Some(version), Some(identity)) =
            (self.packed, self.packed_version, &self.identity)
        {
            writeln!(out, "packed      version {version}, LM head {output}, identity {identity}")?;
        }
        Ok(())
    }

    /// What its tensors are.
    fn write_weights(&self, out: &mut impl Write) -> io::Result<()> {
        let bits = self.bits_per_weight.map(|bits| format!(" of {bits:.2} bits"));
        let (millions, bits) = (self.parameters as f64 / 1e6, bits.unwrap_or_default());
        writeln!(out, "parameters  {millions:.3} M{bits}")?;
        self.sizes.as_ref().map_or(Ok(()), |sizes| sizes.write(out))?;
        self.shape.as_ref().map_or(Ok(()), |shape| shape.write(out))?;
        writeln!(out, "tensors     {}", self.tensors)?;
        for (name, TypeTotal { tensors, weights, bytes }) in &self.types {
            let (weights, bytes) = (*weights as f64 / 1e6, Mib(*bytes));
            writeln!(out, "  {name:8}  {tensors:4} tensors, {weights:9.3} M weights, {bytes}")?;
        }
        let mut unused = self.unused_tensors.iter();
        unused.try_for_each(|name| writeln!(out, "  not used  {}", line(name)))
    }
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

/// Bits of a weight on average, if the sizes of all types are known.
fn bits_per_weight(types: &BTreeMap<String, TypeTotal>) -> Option<f64> {
    let is_known = types.values().all(|total| total.bytes > 0);
    let sum =
        |of: fn(&TypeTotal) -> usize| types.values().map(|total| of(total) as f64).sum::<f64>();
    let weights = sum(|total| total.weights);
    (is_known && weights > 0.0).then(|| 8.0 * sum(|total| total.bytes) / weights)
}

fn memory(model: &Model<'_>, context: Option<usize>) -> Result<Memory, Failure> {
    let options = one_sequence(&model.config, context);
    let placement = Placement::choose(model, options, None, false)?;
    let Plan { weights, kv, scratch, sampler, .. } = placement.plan;
    let Footprint { program, total } = placement.footprint(None);
    Ok(Memory { context: options.context, weights, kv, scratch, sampler, program, total })
}

impl Memory {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "memory      {} for a context of {}: weights {}, KV cache {}, scratch {}, sampler {}, \
             program {}",
            Mib(self.total),
            self.context,
            Mib(self.weights),
            Mib(self.kv),
            Mib(self.scratch),
            Mib(self.sampler),
            Mib(self.program)
        )
    }
}
