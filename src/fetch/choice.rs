//! Which files of a repository are meant.

use crate::Error;
use crate::error::Size;
use crate::source::Source;
use wick_format::SplitName;

/// Most files that an error lists.
const MOST_LISTED: usize = 20;
/// What safetensors need beside themselves to be converted.
const BESIDE: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
];

/// What is chosen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A GGUF file or its parts, the first one first.
    Gguf(Vec<String>),
    /// Safetensors, and what is needed to convert them.
    Safetensors(Vec<String>),
    /// One file of another kind.
    Other(String),
}

/// A file that may be chosen: its path and size.
pub(crate) type File<'f> = (&'f str, u64);

/// What `source` means, of these files.
pub(crate) fn choose(source: &Source, files: &[File<'_>]) -> Result<Choice, Error> {
    let models = models(files);
    if let Some(name) = &source.file {
        return named(source, name, files, &models);
    }
    let all: Vec<&Model<'_>> = models.iter().collect();
    let plain: Vec<&Model<'_>> = models.iter().filter(|model| model.is_q4_0()).collect();
    match (&*all, &*plain) {
        ([], _) => safetensors(source, files),
        ([one], _) | (_, [one]) => one.parts(source, files).map(Choice::Gguf),
        _ => Err(which(source, "has several GGUF files", &models)),
    }
}

fn named(
    source: &Source,
    name: &str,
    files: &[File<'_>],
    models: &[Model<'_>],
) -> Result<Choice, Error> {
    if !files.iter().any(|(path, _)| *path == name) {
        return Err(which(source, "has no such file", models));
    }
    if let Some(split) = SplitName::parse(name) {
        let model = Model { first: split.sibling(1).to_string(), size: 0, split: Some(split) };
        return model.parts(source, files).map(Choice::Gguf);
    }
    let is_gguf = is_gguf(name);
    Ok(if is_gguf { Choice::Gguf(vec![name.into()]) } else { Choice::Other(name.into()) })
}

/// A GGUF file, or the parts of one.
struct Model<'f> {
    /// The path, or that of the first part.
    first: String,
    size: u64,
    split: Option<SplitName<'f>>,
}

impl Model<'_> {
    /// Whether it is in Q4_0 as any program reads it.
    fn is_q4_0(&self) -> bool {
        let name = self.first.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let mut words = name.split(['.', '-']);
        words.any(|word| word == "q4_0") && !name.contains("powerinfer")
    }

    /// The paths of all parts, if none is missing.
    fn parts(&self, source: &Source, files: &[File<'_>]) -> Result<Vec<String>, Error> {
        let Some(split) = self.split else { return Ok(vec![self.first.clone()]) };
        // Counted first, since a name may claim any number.
        let all: Vec<String> = if split.count as usize <= files.len() {
            (1..=split.count).map(|n| split.sibling(n).to_string()).collect()
        } else {
            Vec::new()
        };
        let is_there = |path: &String| files.iter().any(|(found, _)| found == path);
        if all.is_empty() || !all.iter().all(is_there) {
            let message =
                format_args!("{source}: not all {} parts of {} are there", split.count, self.first);
            return Err(Error::usage(message));
        }
        Ok(all)
    }
}

fn models<'f>(files: &[File<'f>]) -> Vec<Model<'f>> {
    let mut models: Vec<Model<'f>> = Vec::new();
    for (path, size) in files.iter().filter(|(path, _)| is_gguf(path)) {
        let split = SplitName::parse(path);
        let first = split.map_or_else(|| (*path).into(), |split| split.sibling(1).to_string());
        match models.iter_mut().find(|model| model.first == first) {
            Some(model) => model.size = model.size.saturating_add(*size),
            None => models.push(Model { first, size: *size, split }),
        }
    }
    models
}

fn is_gguf(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with(".gguf")
}

/// Says what there is to choose from.
fn which(source: &Source, why: &str, models: &[Model<'_>]) -> Error {
    let shown = |model: &Model<'_>| format!("{} ({})", model.first, Size(model.size));
    let mut list: Vec<String> = models.iter().take(MOST_LISTED).map(shown).collect();
    if models.len() > MOST_LISTED {
        list.push(format!("and {} more", models.len() - MOST_LISTED));
    }
    let repository = &source.repository;
    Error::usage(match &*list {
        [] => format!("{source}: {repository} {why}, and no GGUF file"),
        list => format!(
            "{source}: {repository} {why}; name one as {repository}:FILE: {}",
            list.join(", ")
        ),
    })
}

fn safetensors(source: &Source, files: &[File<'_>]) -> Result<Choice, Error> {
    let is_wanted = |path: &str| {
        BESIDE.contains(&path)
            || path.starts_with("chat_template.")
            || path.ends_with(".safetensors")
            || path.ends_with(".safetensors.index.json")
    };
    let names = files.iter().map(|(path, _)| *path).filter(|path| !path.contains('/'));
    let wanted: Vec<String> = names.filter(|path| is_wanted(path)).map(String::from).collect();
    if wanted.iter().any(|path| path.ends_with(".safetensors")) {
        return Ok(Choice::Safetensors(wanted));
    }
    Err(Error::usage(format_args!("{source}: neither GGUF files nor safetensors are there")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(source: &str, files: &[&str]) -> Result<Choice, String> {
        let files: Vec<File<'_>> = files.iter().map(|path| (*path, 5_000_000)).collect();
        choose(&source.parse().unwrap(), &files).map_err(|error| error.to_string())
    }

    fn gguf(names: &[&str]) -> Result<Choice, String> {
        Ok(Choice::Gguf(names.iter().map(|name| (*name).into()).collect()))
    }

    #[test]
    fn one_model_is_the_model() {
        assert_eq!(chosen("a/b", &["README.md", "m.gguf"]), gguf(&["m.gguf"]));
        let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        for source in ["a/b", "a/b:m-00002-of-00002.gguf"] {
            assert_eq!(chosen(source, &parts), gguf(&parts));
            assert!(chosen(source, &parts[1..]).unwrap_err().contains("not all 2 parts"));
        }
        assert!(chosen("a/b", &["m-00001-of-99999.gguf"]).unwrap_err().contains("not all 99999"));
        let several = ["m.Q4_0.gguf", "m.Q4_0.powerinfer.gguf", "m.Q8_0.gguf", "m-Q4_0_4_4.gguf"];
        assert_eq!(chosen("a/b", &several), gguf(&["m.Q4_0.gguf"]));
        let error = chosen("a/b", &several[1..]).unwrap_err();
        assert!(
            error.contains(
                "name one as a/b:FILE: m.Q4_0.powerinfer.gguf (5.0 MB), m.Q8_0.gguf (5.0 MB)"
            ),
            "{error}"
        );
        assert!(chosen("a/b", &["x.Q4_0.gguf", "y.Q4_0.gguf"]).is_err());
        assert_eq!(chosen("a/b:m.Q8_0.gguf", &several), gguf(&["m.Q8_0.gguf"]));
        assert!(chosen("a/b:n.gguf", &several).unwrap_err().contains("has no such file"));
    }

    #[test]
    fn safetensors_bring_what_they_need() {
        let files = [
            "README.md",
            "config.json",
            "chat_template.jinja",
            "merges.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "other/model.safetensors",
        ];
        let wanted = files[1..7].iter().map(|name| (*name).into()).collect();
        assert_eq!(chosen("a/b", &files), Ok(Choice::Safetensors(wanted)));
        assert!(chosen("a/b", &files[..4]).unwrap_err().contains("neither GGUF"));
        assert_eq!(chosen("a/b:README.md", &files), Ok(Choice::Other("README.md".into())));
    }
}
