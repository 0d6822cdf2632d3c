//! Parts that are no whole model.

use crate::cases::{Broken, parted};

pub(crate) fn splits() -> Vec<Broken> {
    vec![
        parted("no file", Vec::clear, "at least one file expected, none given"),
        parted(
            "the last part missing",
            |p| _ = p.pop(),
            "part 3 of 3 (…-00003-of-00003.gguf) is missing: put it beside the others",
        ),
        parted(
            "the first part missing",
            |p| _ = p.remove(0),
            "part 1 of 3 (…-00001-of-00003.gguf) is missing: put it beside the others",
        ),
        parted(
            "the middle part missing",
            |p| _ = p.remove(1),
            "part 2 of 3 (…-00002-of-00003.gguf) is missing: put it beside the others",
        ),
        parted(
            "parts in another order",
            |p| p.swap(1, 2),
            "file 2: part 2 of the model expected, part 3 found",
        ),
        parted(
            "a part twice",
            |p| p.push(p[2].clone()),
            "file 4: part 4 of the model expected, part 3 found",
        ),
        parted(
            "another count of parts",
            |p| _ = p[2].set("split.count", 4u16),
            "file 3: split.count: 3 expected as in file 1, 4 found",
        ),
        parted(
            "another count of tensors",
            |p| _ = p[1].set("split.tensors.count", 21i32),
            "file 2: split.tensors.count: 22 expected as in file 1, 21 found",
        ),
        parted(
            "fewer tensors than counted",
            |p| p.iter_mut().for_each(|part| _ = part.set("split.tensors.count", 30i32)),
            "split.tensors.count: 30 tensors expected, 22 found",
        ),
        parted(
            "a part without number",
            |p| _ = p[0].remove("split.no"),
            "split.no: missing from the metadata",
        ),
        parted(
            "a part that is whole",
            |p| _ = p[1].remove("split.count"),
            "file 2: split.count is missing: it is no part of a split model",
        ),
        parted(
            "a first part that is whole",
            |p| _ = p[0].remove("split.count"),
            "file 1: split.count is missing: it is no part of a split model",
        ),
        parted(
            "a count of parts in words",
            |p| _ = p[0].set("split.count", "three"),
            "split.count: an integer from 0 to 4294967295 expected, \"three\" found",
        ),
        parted(
            "a number below 0",
            |p| _ = p[1].set("split.no", -1i32),
            "split.no: an integer from 0 to 4294967295 expected, -1 found",
        ),
        parted(
            "a tensor in two parts",
            |p| p[2].tensors[0] = p[0].tensors[0].clone(),
            "token_embd.weight: once expected, twice found",
        ),
        parted(
            "one part of a split file alone",
            |p| p.truncate(1),
            "part 2 of 3 (…-00002-of-00003.gguf) is missing: put it beside the others",
        ),
    ]
}
