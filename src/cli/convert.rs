//! `wick convert`: published weights as a model's file.

use crate::exit::Failure;
use crate::format::format;
use crate::interrupt::Interrupt;
use crate::making::{LmHeadArguments, WritingArguments};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use wick_kernels::Format;
use wick_linux::ModelFile;
use wick_linux::host::{Files, HostError};
use wick_prepare::{
    Checkpoint, ConvertRule, Error, Predictor, Texts, convert, refuse_input, shards,
};

/// Make a model's file of published weights: Hugging Face's safetensors, configuration and tokenizer
///
/// DIR is a folder with config.json, tokenizer.json, what else describes the model (tokenizer_config.json,
/// generation_config.json, chat_template.jinja), and safetensors files in BF16, F16 or F32. Layouts of windows and RoPE
/// that a file cannot say are refused.
///
///   wick convert SmallThinker-4BA0.6B-Instruct -o 4b-q4_0.gguf --type q4_0
///   wick convert SmallThinker-4BA0.6B-Instruct -o 4b.wick.gguf --type q4_0 --pack
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Folder with the weights and what describes them
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Type of all matrices but the router: f16, bf16, f32, q8_0, q6_k or q4_0 [default: as the embedding has it]
    #[arg(long = "type", value_name = "TYPE", value_parser = format)]
    format: Option<Format>,
    #[command(flatten)]
    lm_head_type: LmHeadArguments,
    /// What the model is called [default: as its folder, or its repository in the hub's cache]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take over PowerInfer's predictor of rows of the LM head: a safetensors file with its two matrices, or a GGUF file
    /// that has it
    #[arg(long, value_name = "FILE")]
    lm_head: Option<PathBuf>,
    #[command(flatten)]
    writing: WritingArguments,
}

pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<(), Failure> {
    let Arguments { folder, lm_head, writing, .. } = arguments;
    let texts = Texts::read(folder)?;
    let paths = shards(folder)?;
    let described = Texts::paths(folder)?;
    refuse_input(&writing.out, described.iter().map(PathBuf::as_path))?;
    refuse_input(&writing.out, paths.iter().map(PathBuf::as_path).chain(lm_head.as_deref()))?;
    let files = Files::open_all(&folder.display().to_string(), &paths)?;
    let predictor = lm_head.as_deref().map(ModelFile::open).transpose().map_err(HostError::from)?;
    let shards: Vec<String> = paths.iter().map(|path| file_name(path)).collect();
    let blame = |error: Error| files.blame(error);
    let bytes = files.parts().iter().map(|part| &part[..]);
    let checkpoint =
        Checkpoint::parse(shards.iter().map(String::as_str).zip(bytes)).map_err(blame)?;
    let given = lm_head.as_deref().map(file_name).unwrap_or_default();
    let predictor = predictor.as_ref().map(|file| Predictor::parse(&given, file));
    let predictor = predictor.transpose().map_err(blame)?;
    let rule = ConvertRule {
        format: arguments.format,
        lm_head: arguments.lm_head_type.output_type,
        is_pure: arguments.lm_head_type.is_pure,
    };
    let name = arguments.name.clone().unwrap_or_else(|| model_name(folder));
    let new = convert(&name, &texts, &checkpoint, predictor.as_ref(), rule).map_err(blame)?;
    writing.write("converting", new, &files, interrupt)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What the model is called: as its folder, or, in the cache of the hub's tools (`models--USER--NAME/snapshots/COMMIT`), as
/// its repository.
fn model_name(folder: &Path) -> String {
    let path = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let above = path.parent().filter(|parent| parent.ends_with("snapshots"));
    let repository = above.and_then(Path::parent).map(file_name);
    let name = repository.as_deref().and_then(|name| name.strip_prefix("models--"));
    let name = name.and_then(|name| name.rsplit("--").next());
    name.map_or_else(|| file_name(&path), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_as_their_repositories() {
        for (folder, name) in [
            ("/x/hub/models--USER--Small-1/snapshots/0123abcd", "Small-1"),
            ("/x/Small-1/", "Small-1"),
            ("/x/snapshots/0123", "0123"),
        ] {
            assert_eq!(model_name(Path::new(folder)), name);
        }
    }
}
