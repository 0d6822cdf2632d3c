//! Broken tables: keys and tensors that contradict each other or the file.

use crate::cases::{Broken, edited};

pub(crate) fn tables() -> Vec<Broken> {
    let q = "blk.0.attn_q.weight";
    vec![
        edited(
            "a key twice",
            |w| w.entries.push(w.entries[3].clone()),
            "~context_length: once expected, twice found",
        ),
        edited(
            "a tensor twice",
            |w| w.tensors.push(w.tensors[5].clone()),
            "blk.0.attn_v.weight: once expected, twice found",
        ),
        edited(
            "an alignment of 0",
            |w| _ = w.set("general.alignment", 0u32),
            "general.alignment: a power of two, 8 or more expected, 0 found",
        ),
        edited(
            "an alignment of 48",
            |w| _ = w.set("general.alignment", 48u32),
            "general.alignment: a power of two, 8 or more expected, 48 found",
        ),
        edited(
            "an alignment of 4",
            |w| _ = w.set("general.alignment", 4u32),
            "general.alignment: a power of two, 8 or more expected, 4 found",
        ),
        edited(
            "an alignment in words",
            |w| _ = w.set("general.alignment", "32"),
            "general.alignment: an integer from 0 to 4294967295 expected, \"32\" found",
        ),
        edited(
            "another alignment than used",
            |w| _ = w.set("general.alignment", 4096u32),
            "output_norm.weight: an offset that is a multiple of 4096 expected, 10368 found",
        ),
        edited(
            "a tensor's name that is not UTF-8",
            |w| w.tensors[3].name[0] = 0xc0,
            "tensor table entry 3: a name in UTF-8 expected at byte 5589",
        ),
        edited(
            "a tensor's name of 65 bytes",
            |w| w.tensors[3].name = vec![b'x'; 65],
            "tensor table entry 3: at most 64 bytes of name expected at byte 5589, 65 found",
        ),
        edited(
            "no dimensions",
            |w| w.tensor(q).dims.clear(),
            "blk.0.attn_q.weight: 1 to 4 dimensions expected at byte 5616, 0 found",
        ),
        edited(
            "five dimensions",
            |w| w.tensor(q).dims = vec![2, 2, 2, 2, 2],
            "blk.0.attn_q.weight: 1 to 4 dimensions expected at byte 5616, 5 found",
        ),
        edited(
            "a dimension of 0",
            |w| w.tensor(q).dims[1] = 0,
            "blk.0.attn_q.weight: a dimension greater than 0 expected at byte 5628, 0 found",
        ),
        edited(
            "dimensions that overflow",
            |w| w.tensor(q).dims = vec![1 << 32; 3],
            "blk.0.attn_q.weight: dimensions whose product can be addressed expected at \
             byte 5628, 4294967296 found",
        ),
        edited(
            "a dimension beyond addresses",
            |w| w.tensor(q).dims = vec![1 << 63, 2],
            "blk.0.attn_q.weight: dimensions whose product can be addressed expected at \
             byte 5628, 2 found",
        ),
        edited(
            "bytes that overflow",
            |w| (w.tensor(q).dims, w.tensor(q).number) = (vec![1 << 31, 1 << 31], 0),
            "blk.0.attn_q.weight: [2147483648, 2147483648] is more than can be addressed",
        ),
        edited(
            "rows of half a block",
            |w| w.tensor(q).dims = vec![48, 128],
            "blk.0.attn_q.weight: rows of a multiple of 32 expected for Q4_0, 48 found",
        ),
        edited(
            "an offset between multiples",
            |w| w.tensor(q).offset = Some(33),
            "blk.0.attn_q.weight: an offset that is a multiple of 32 expected, 33 found",
        ),
        edited(
            "an offset beyond the file",
            |w| w.tensor(q).offset = Some(1 << 40),
            "blk.0.attn_q.weight: needs bytes 1099511634592..1099511638048, the file has \
             177184[again]",
        ),
        edited(
            "an offset that overflows",
            |w| w.tensor(q).offset = Some(u64::MAX - 31),
            "blk.0.attn_q.weight: needs bytes 18446744073709551615..18446744073709551615, \
             the file has 177184[again]",
        ),
        edited(
            "two tensors in one place",
            |w| w.tensor(q).offset = Some(0),
            "token_embd.weight: begins at byte 6816, within blk.0.attn_q.weight",
        ),
        edited(
            "two tensors that overlap",
            |w| {
                let at = w.tensors[0].data.len().next_multiple_of(32) as u64 - 32;
                w.tensors[1].offset = Some(at);
            },
            "output_norm.weight: begins at byte 17152, within token_embd.weight",
        ),
        edited(
            "a tensor of unknown format beyond the file",
            |w| (w.tensors[4].number, w.tensors[4].offset) = (99, Some(1 << 30)),
            "blk.0.attn_k.weight: needs bytes 1073748640..1073748641, the file has \
             177184[again]",
        ),
        edited(
            "a tensor more than its data",
            |w| w.tensors[22 - 1].data.truncate(100),
            "blk.1.ffn_down_exps.weight: needs bytes 154144..177184, the file has \
             154244[again]",
        ),
    ]
}
