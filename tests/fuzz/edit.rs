//! What is done to a well-formed model file, as bytes choose it.

use arbitrary::{Result, Unstructured};
use wick_format::Kind;
use wick_tests::gguf::{Tensor, Value, Writer};

/// Numbers at which something ends, begins or overflows.
const EDGES: [u64; 17] = [
    0,
    1,
    2,
    3,
    4,
    5,
    31,
    32,
    64,
    255,
    256,
    4096,
    65_535,
    1 << 31,
    u32::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Edits a file until the bytes are used up.
pub(crate) fn edit_all(writer: &mut Writer, bytes: &mut Unstructured<'_>) -> Result<()> {
    while !bytes.is_empty() {
        edit(writer, bytes)?;
    }
    Ok(())
}

/// Changes one thing of a file.
pub(crate) fn edit(writer: &mut Writer, bytes: &mut Unstructured<'_>) -> Result<()> {
    match bytes.int_in_range(0..=9)? {
        0..=3 if !writer.entries.is_empty() => {
            let at = bytes.choose_index(writer.entries.len())?;
            change(&mut writer.entries[at].1, bytes)?;
        }
        4 if !writer.entries.is_empty() => {
            let at = bytes.choose_index(writer.entries.len())?;
            drop(writer.entries.remove(at));
        }
        5 => writer.entries.push((bytes.arbitrary::<&str>()?.into(), value(bytes)?)),
        6 => {
            writer.version = number(bytes)? as u32;
            writer.alignment = 1 << bytes.int_in_range(0..=13)?;
        }
        7 if !writer.tensors.is_empty() => {
            let at = bytes.choose_index(writer.tensors.len())?;
            drop(writer.tensors.remove(at));
        }
        _ if !writer.tensors.is_empty() => {
            let at = bytes.choose_index(writer.tensors.len())?;
            reshape(&mut writer.tensors[at], bytes)?;
        }
        _ => (),
    }
    Ok(())
}

fn reshape(tensor: &mut Tensor, bytes: &mut Unstructured<'_>) -> Result<()> {
    match bytes.int_in_range(0..=5)? {
        0 => tensor.number = bytes.int_in_range(0..=45)?,
        1 => tensor.offset = Some(number(bytes)?),
        2 => tensor.data.truncate(number(bytes)? as usize),
        3 => tensor.dims.push(number(bytes)?),
        4 => tensor.name = bytes.arbitrary::<&[u8]>()?.into(),
        _ if !tensor.dims.is_empty() => {
            let at = bytes.choose_index(tensor.dims.len())?;
            tensor.dims[at] = number(bytes)?;
        }
        _ => (),
    }
    Ok(())
}

/// Another value of the same type, mostly.
fn change(of: &mut Value, bytes: &mut Unstructured<'_>) -> Result<()> {
    match of {
        Value::Array(_, values) if bytes.ratio(7, 8)? && !values.is_empty() => {
            let at = bytes.choose_index(values.len())?;
            match bytes.int_in_range(0..=3)? {
                0 => values.truncate(at),
                1 => values.push(values[at].clone()),
                _ => change(&mut values[at], bytes)?,
            }
        }
        Value::U32(x) if bytes.ratio(7, 8)? => *x = number(bytes)? as u32,
        Value::F32(x) if bytes.ratio(7, 8)? => *x = f32::from_bits(bytes.arbitrary()?),
        Value::I32(x) if bytes.ratio(7, 8)? => *x = number(bytes)? as i32,
        Value::String(x) if bytes.ratio(7, 8)? => *x = bytes.arbitrary::<&[u8]>()?.into(),
        _ => *of = value(bytes)?,
    }
    Ok(())
}

fn number(bytes: &mut Unstructured<'_>) -> Result<u64> {
    match bytes.arbitrary::<u8>()? {
        choice if (choice as usize) < EDGES.len() => Ok(EDGES[choice as usize]),
        choice if choice < 128 => Ok(u64::from(choice)),
        _ => bytes.arbitrary(),
    }
}

/// A value of any type.
fn value(bytes: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match bytes.int_in_range(0..=9)? {
        0 => Value::U8(bytes.arbitrary()?),
        1 => Value::I64(number(bytes)? as i64),
        2 => Value::U64(number(bytes)?),
        3 => Value::F32(f32::from_bits(bytes.arbitrary()?)),
        4 => Value::F64(f64::from_bits(bytes.arbitrary()?)),
        5 => Value::Bool(bytes.arbitrary()?),
        6 => Value::String(bytes.arbitrary::<&[u8]>()?.into()),
        7 => Value::Array(
            Kind::U32,
            vec![Value::U32(number(bytes)? as u32); bytes.int_in_range(0..=5)?],
        ),
        8 => Value::Array(
            Kind::String,
            vec![Value::String(bytes.arbitrary::<&[u8]>()?.into()); bytes.int_in_range(0..=5)?],
        ),
        _ => Value::U32(number(bytes)? as u32),
    })
}
