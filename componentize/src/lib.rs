//! What a component that componentize-py has made still needs to be a driver: its language, and memory that is given back.
//!
//! [`finish`] is the last step of `bulkhead build` for Python, and of the build of Bulkhead's own drivers.
//!
//! # Memory is given back
//!
//! A driver runs for months, and componentize-py 0.25 forgets two kinds of memory:
//!
//! - **Bytes that leave**: each `list<u8>` that Python hands out is copied, and the copy is never freed, some 30 bytes for a short
//!   question. All other lists are noted with the call, and freed after it.
//! - **Empty lists**, both ways: memory of no length is asked for and has a place still, 16 bytes, but is not freed, *since* it has no
//!   length. A turn without actions is such a list; so is what a poll is to skip.
//!
//! A channel that asks ten questions in a second would be out of memory within two days. The place is a small module of the component
//! that is generated from the WIT, not the interpreter; [`finish`] adds what is marked here:
//!
//! ```text
//! call $wit_dylib_pop_list     ;; the length; the address, or null, is stored in the frame
//! local.set $length
//! (the frame's address) i32.load
//! local.set $list
//! local.get $list
//! i32.eqz
//! if                           ;; null: element by element
//!   ...
//!   local.get $size
//!   drop  i32.const 1          ;; added: whatever the size
//!   if
//!     (the call) local.get $list  local.get $size  i32.const 4  i32.const 1  call $wit_dylib_dealloc_bytes
//!   end
//! else                         ;; added, to the end
//!   (the call) local.get $list  local.get $length  i32.const 1  i32.const 1  call $wit_dylib_dealloc_bytes
//! end
//! ```
//!
//! Known of versions 0.25.0 and 0.25.1; with any other a component stays as it is, since one that frees by itself would do it twice.
//! `bulkhead conform` (`universal/memory`) shows whether a driver's memory grows.

use std::ops::Range;

use wasmparser::{
    BinaryReader, BinaryReaderError, FunctionBody, ImportSectionReader, Operator, TypeRef,
};

/// The versions of componentize-py that forget memory.
const FORGETFUL: [&str; 2] = ["0.25.0", "0.25.1"];

/// A module and a component begin with a magic number and a version.
const HEADER: usize = 8;

const CUSTOM: u8 = 0;
/// Within a component.
const CORE_MODULE: u8 = 1;
/// Within a component.
const COMPONENT: u8 = 4;
/// Within a module.
const IMPORTS: u8 = 2;
/// Within a module.
const CODE: u8 = 10;

/// Instructions.
mod code {
    pub(super) const ELSE: u8 = 0x05;
    pub(super) const CALL: u8 = 0x10;
    pub(super) const DROP: u8 = 0x1a;
    pub(super) const LOCAL_GET: u8 = 0x20;
    pub(super) const I32_CONST: u8 = 0x41;
}

/// Why a component cannot be finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no component, or damaged.
    #[error("what componentize-py has made cannot be read: {0}")]
    Unreadable(#[from] BinaryReaderError),
    /// The code that hands bytes out has another form than that version writes.
    #[error(
        "componentize-py {version} has made a component of an unknown form, whose memory may grow; install the version that requirements.txt of `bulkhead new` names"
    )]
    UnknownForm {
        /// Which componentize-py says it was.
        version: String,
    },
}

/// What of a component `tool_version` of componentize-py has made: with its memory mended, and its language named.
///
/// # Errors
///
/// See [`Error`].
pub fn finish(component: &[u8], tool_version: &str) -> Result<Vec<u8>, Error> {
    let mut finished = if FORGETFUL.contains(&tool_version) {
        let (mended, places) = mend_component(component)?;
        if places == 0 {
            return Err(unknown(tool_version));
        }
        mended
    } else {
        component.to_vec()
    };
    sign(&mut finished, tool_version);
    Ok(finished)
}

fn unknown(version: &str) -> Error {
    Error::UnknownForm {
        version: version.to_owned(),
    }
}

/// Adds to a component that it is written in Python: componentize-py names only what its interpreter is written in.
///
/// A `producers` section (<https://github.com/WebAssembly/tool-conventions/blob/main/ProducersSection.md>) at the end of the file.
fn sign(component: &mut Vec<u8>, tool_version: &str) {
    let text = |text: &str| [&leb(text.len())[..], text.as_bytes()].concat();
    let field = |name: &str, value: &str, version: &str| {
        [text(name), leb(1), text(value), text(version)].concat()
    };
    let body = [
        text("producers"),
        leb(2),
        field("language", "Python", ""),
        field("processed-by", "componentize-py", tool_version),
    ]
    .concat();
    put_section(component, CUSTOM, &body);
}

/// A number of 32 bits without a sign, in LEB128.
fn leb(number: usize) -> Vec<u8> {
    let mut rest = number;
    let mut bytes = Vec::new();
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn put_section(to: &mut Vec<u8>, id: u8, body: &[u8]) {
    to.push(id);
    to.extend(leb(body.len()));
    to.extend(body);
}

/// The sections of a module or a component: what each is, and where its content stands.
fn sections(binary: &[u8]) -> Result<Vec<(u8, Range<usize>)>, BinaryReaderError> {
    let mut reader = BinaryReader::new(binary, 0);
    reader.read_bytes(HEADER)?;
    let mut found = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()? as usize;
        let start = at(reader.original_position());
        reader.read_bytes(length)?;
        found.push((id, start..start + length));
    }
    Ok(found)
}

/// A place in what is all in memory.
#[allow(
    clippy::cast_possible_truncation,
    reason = "an offset within a slice fits in a usize"
)]
fn at(offset: u64) -> usize {
    offset as usize
}

/// A component with every module in it mended, at any depth, and at how many places.
fn mend_component(component: &[u8]) -> Result<(Vec<u8>, usize), Error> {
    let sections = sections(component)?;
    let mut mended = component[..HEADER].to_vec();
    let mut places = 0;
    for (id, range) in sections {
        let content = &component[range];
        let (content, here) = match id {
            CORE_MODULE => mend_module(content)?,
            COMPONENT => mend_component(content)?,
            _ => (content.to_vec(), 0),
        };
        put_section(&mut mended, id, &content);
        places += here;
    }
    Ok((mended, places))
}

/// The two functions of the interpreter that matter, by their numbers in a module that calls them.
struct Calls {
    pop_list: u32,
    dealloc: u32,
}

/// A module that hands lists out, mended; any other as it is.
fn mend_module(module: &[u8]) -> Result<(Vec<u8>, usize), Error> {
    let sections = sections(module)?;
    let content = |wanted| {
        let mut all = sections.iter();
        all.find(|(id, _)| *id == wanted)
            .map(|(_, range)| &module[range.clone()])
    };
    let (Some(imports), Some(code)) = (content(IMPORTS), content(CODE)) else {
        return Ok((module.to_vec(), 0));
    };
    let Some(calls) = calls(imports)? else {
        return Ok((module.to_vec(), 0));
    };
    let (code, places) = mend_code(code, &calls)?;
    let mut mended = module[..HEADER].to_vec();
    for (id, range) in sections {
        let content = if id == CODE { &code } else { &module[range] };
        put_section(&mut mended, id, content);
    }
    Ok((mended, places))
}

fn calls(imports: &[u8]) -> Result<Option<Calls>, Error> {
    let (mut pop_list, mut dealloc) = (None, None);
    let mut number = 0;
    for import in ImportSectionReader::new(BinaryReader::new(imports, 0))?.into_imports() {
        let import = import?;
        if !matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
            continue;
        }
        match import.name {
            "wit_dylib_pop_list" => pop_list = Some(number),
            "wit_dylib_dealloc_bytes" => dealloc = Some(number),
            _ => {}
        }
        number += 1;
    }
    Ok(pop_list
        .zip(dealloc)
        .map(|(pop_list, dealloc)| Calls { pop_list, dealloc }))
}

/// A code section with every place at which a list is handed out mended, and how many there are.
fn mend_code(code: &[u8], calls: &Calls) -> Result<(Vec<u8>, usize), Error> {
    let mut reader = BinaryReader::new(code, 0);
    let count = reader.read_var_u32()?;
    let mut mended = leb(count as usize);
    let mut places = 0;
    for _ in 0..count {
        let length = reader.read_var_u32()? as usize;
        let body = reader.read_bytes(length)?;
        let additions = additions(body, calls)?;
        let mut new: Vec<u8> = Vec::with_capacity(length);
        let mut copied = 0;
        for (before, what) in &additions {
            new.extend(&body[copied..*before]);
            new.extend(what);
            copied = *before;
        }
        new.extend(&body[copied..]);
        mended.extend(leb(new.len()));
        mended.extend(new);
        places += additions.len();
    }
    Ok((mended, places))
}

/// What is to be put into a function, each before the byte at this place, in order.
fn additions(body: &[u8], calls: &Calls) -> Result<Vec<(usize, Vec<u8>)>, Error> {
    let function = FunctionBody::new(BinaryReader::new(body, 0));
    let mut operators = Vec::new();
    for operator in function.get_operators_reader()?.into_iter_with_offsets() {
        let (operator, offset) = operator?;
        operators.push((operator, at(offset)));
    }
    let mut additions = Vec::new();
    for place in 0..operators.len() {
        let (Operator::Call { function_index }, _) = operators[place] else {
            continue;
        };
        if function_index == calls.pop_list {
            let addition = free_bytes(&operators, place, calls.dealloc);
            additions.push(addition.ok_or_else(|| unknown("0.25"))?);
        }
        if function_index == calls.dealloc {
            additions.extend(free_whatever_its_size(&operators, place));
        }
    }
    additions.sort_by_key(|(before, _)| *before);
    Ok(additions)
}

/// Where a list is freed, unless it has no size: without that condition. Nothing, where there is none.
fn free_whatever_its_size(
    operators: &[(Operator<'_>, usize)],
    place: usize,
) -> Option<(usize, Vec<u8>)> {
    let [
        (Operator::LocalGet { local_index: asked }, _),
        (Operator::If { .. }, before),
        (Operator::LocalGet { .. }, _),
        (Operator::LocalGet { .. }, _),
        (Operator::LocalGet { local_index: size }, _),
        (Operator::I32Const { .. }, _),
        (Operator::I32Const { .. }, _),
    ] = operators[place.checked_sub(7)?..place]
    else {
        return None;
    };
    (asked == size).then(|| (before, vec![code::DROP, code::I32_CONST, 1]))
}

/// The bytes that the call at `place` has handed out, if what follows has the form that is known.
fn free_bytes(
    operators: &[(Operator<'_>, usize)],
    place: usize,
    dealloc: u32,
) -> Option<(usize, Vec<u8>)> {
    let before: Vec<&Operator<'_>> = operators[..place].iter().map(|(one, _)| one).collect();
    let [
        ..,
        Operator::LocalGet { local_index: call },
        Operator::I32Const { .. },
        Operator::LocalGet { .. },
        Operator::I32Const { .. },
        Operator::I32Add,
    ] = before[..]
    else {
        return None;
    };
    let after: Vec<&Operator<'_>> = operators[place + 1..].iter().map(|(one, _)| one).collect();
    let [
        Operator::LocalSet {
            local_index: length,
        },
        Operator::LocalGet { .. },
        Operator::I32Const { .. },
        Operator::I32Add,
        Operator::I32Load { .. },
        Operator::LocalSet { local_index: list },
        Operator::LocalGet { local_index: asked },
        Operator::I32Eqz,
        Operator::If { .. },
        ref within @ ..,
    ] = after[..]
    else {
        return None;
    };
    if list != asked {
        return None;
    }
    let mut depth = 0;
    let end = within.iter().position(|operator| match operator {
        Operator::If { .. } | Operator::Block { .. } | Operator::Loop { .. } => {
            depth += 1;
            false
        }
        Operator::Else => depth == 0,
        Operator::End if depth == 0 => true,
        Operator::End => {
            depth -= 1;
            false
        }
        _ => false,
    })?;
    if matches!(within[end], Operator::Else) {
        return None;
    }
    let offset = operators[operators.len() - within.len() + end].1;
    Some((offset, free_after_call(*call, *list, *length, dealloc)))
}

/// The other branch: the bytes are freed with all else that the call has handed out.
fn free_after_call(call: u32, list: u32, length: u32, dealloc: u32) -> Vec<u8> {
    let with = |instruction: u8, number: u32| [vec![instruction], leb(number as usize)].concat();
    [
        vec![code::ELSE],
        with(code::LOCAL_GET, call),
        with(code::LOCAL_GET, list),
        with(code::LOCAL_GET, length),
        // Their alignment, and that it is for later.
        with(code::I32_CONST, 1),
        with(code::I32_CONST, 1),
        with(code::CALL, dealloc),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
