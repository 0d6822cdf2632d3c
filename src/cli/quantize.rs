//! `wick quantize`: the same model in other formats.

use crate::exit::{Exit, Failure, OrExit};
use crate::format::format;
use crate::interrupt::Interrupt;
use crate::making::{InputArguments, LmHeadArguments, WritingArguments};
use anyhow::Context;
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use wick_format::Model;
use wick_kernels::Format;
use wick_linux::ModelFile;
use wick_prepare::{FormatRule, Importances, refuse_input, requantize};

/// Round a model's weights to another type: as good as llama.cpp's, to the bit
///
/// Matrices get the type; router and norms stay as they are. The LM head, or the embedding that does its work, is Q6_K
/// where the type is Q4_0, as llama.cpp has it. A split model becomes one file.
///
///   wick quantize model-f16.gguf -o model-q4_0.gguf --type q4_0
///   wick quantize model-f16.gguf -o model-q4_0.gguf --type q4_0 --imatrix imatrix.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: InputArguments,
    /// Type of all matrices but the router: q4_0, q8_0, q6_k, f16, bf16 or f32
    #[arg(long = "type", value_name = "TYPE", value_parser = format)]
    format: Format,
    #[command(flatten)]
    lm_head_type: LmHeadArguments,
    /// Round by an importance of weights: a file that llama.cpp's llama-imatrix writes, in either form
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    #[command(flatten)]
    writing: WritingArguments,
}

pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<(), Failure> {
    let Arguments { imatrix, writing, .. } = arguments;
    let files = arguments.input.open()?;
    let inputs = files.parts().iter().map(ModelFile::path).chain(imatrix.as_deref());
    refuse_input(&writing.out, inputs)?;
    let importances = imatrix.as_deref().map(importances).transpose()?;
    let parts = files.parse()?;
    let model = Model::new(&parts).map_err(|e| files.blame(e))?;
    let rule = FormatRule {
        format: arguments.format,
        lm_head: arguments.lm_head_type.output_type,
        is_pure: arguments.lm_head_type.is_pure,
    };
    let new = requantize(model, rule, importances.as_ref()).map_err(|e| files.blame(e))?;
    if let Some(format) = new.rounded_twice() {
        log::warn!(
            "{}: weights are {format}, and lose again; an f16 or bf16 file loses once",
            files.name()
        );
    }
    writing.write("quantizing", new, &files, interrupt)
}

/// Reads an importance matrix.
fn importances(path: &Path) -> Result<Importances, Failure> {
    let name = path.display().to_string();
    let bytes = fs::read(path).with_context(|| name.clone()).or_exit(Exit::Input)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Importances::parse(&file, &bytes).map_err(|e| Failure::new(Exit::Input, e))
}
