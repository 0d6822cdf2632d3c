//! Models that lie in several files.

use crate::error::Error;
use crate::gguf::Gguf;

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// What a part of a split model says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Number of the part, counted from 0 (`split.no`).
    pub number: u32,
    /// Number of parts (`split.count`).
    pub count: u32,
    /// Tensors of all parts together (`split.tensors.count`).
    pub tensors: u32,
}

impl<'m> Gguf<'m> {
    /// Which part of a split model the file is; `None` for a whole one.
    pub fn split(&self) -> Result<Option<Split>, Error<'m>> {
        let Some(count) = self.get(COUNT) else { return Ok(None) };
        let count = count.u32()?;
        if count == 0 {
            return Ok(None);
        }
        let number = self.need(NO)?.u32()?;
        let tensors = self.need(TENSORS)?.u32()?;
        Ok(Some(Split { number, count, tensors }))
    }
}

/// Checks that the files are one whole model: all its parts, in order.
pub(crate) fn check<'m>(files: &[Gguf<'m>]) -> Result<(), Error<'m>> {
    let first = files.first().ok_or(Error::NoFile)?;
    let Some(whole) = first.split()? else {
        return if files.len() == 1 { Ok(()) } else { Err(Error::NoPart { file: 1, key: COUNT }) };
    };
    for (i, gguf) in files.iter().enumerate() {
        check_part(i + 1, gguf, whole)?;
    }
    let is_given = |n| files.iter().any(|g| matches!(g.split(), Ok(Some(s)) if s.number == n));
    if let Some(missing) = (0..whole.count).find(|&n| !is_given(n)) {
        return Err(Error::MissingPart { part: missing + 1, count: whole.count });
    }
    for (i, gguf) in files.iter().enumerate() {
        if let Some(split) = gguf.split()?.filter(|s| s.number as usize != i) {
            return Err(Error::PartOrder { file: i + 1, found: split.number.saturating_add(1) });
        }
    }
    check_tensors(files, whole.tensors)
}

/// Checks that a file belongs to the same model as the first one.
fn check_part<'m>(file: usize, gguf: &Gguf<'m>, whole: Split) -> Result<(), Error<'m>> {
    let split = gguf.split()?.ok_or(Error::NoPart { file, key: COUNT })?;
    let counts = (COUNT, whole.count, split.count);
    let tensors = (TENSORS, whole.tensors, split.tensors);
    for (key, expected, found) in [counts, tensors] {
        if expected != found {
            return Err(Error::PartDisagrees { file, key, expected, found });
        }
    }
    Ok(())
}

/// Checks that the parts have as many tensors as they say, and none twice.
fn check_tensors<'m>(files: &[Gguf<'m>], expected: u32) -> Result<(), Error<'m>> {
    let found = files.iter().map(Gguf::tensor_count).sum();
    if expected as usize != found {
        return Err(Error::PartTensors { expected, found });
    }
    for (i, gguf) in files.iter().enumerate() {
        for name in gguf.tensors().map(|tensor| tensor.name()) {
            if files[..i].iter().any(|earlier| earlier.tensor(name).is_some()) {
                return Err(Error::Duplicate { place: crate::Place::Tensor(name) });
            }
        }
    }
    Ok(())
}
