//! What a component that componentize-py has made still needs to be a driver: its language, and memory that is given back.
//!
//! [`finish`] is the last step of `bulkhead build` for Python, and of the build of Bulkhead's own drivers.
//!
//! # Memory is given back
//!
//! A driver runs for months, and componentize-py 0.25 forgets three kinds of memory, of which the first two are mended:
//!
//! - **Bytes that leave**: each `list<u8>` that Python hands out is copied, and the copy is never freed, some 30 bytes for a short
//!   question. All other lists are noted with the call, and freed after it.
//! - **Empty lists**, both ways: memory of no length is asked for and has a place still, 16 bytes, but is not freed, *since* it has no
//!   length. A turn without actions is such a list; so is what a poll is to skip.
//!
//! - **Empty texts that come in**: 16 bytes for each, for the same reason. They come with a configuration, and where somebody writes an
//!   empty text; it is left so, since the interpreter owns a text from the moment it gets it.
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

/// Components within components, at most: componentize-py nests once.
const MAX_DEPTH: usize = 8;

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
    /// Its code that hands lists over has another form than that version writes.
    #[error(
        "componentize-py {version} has made a component of an unknown form, whose memory would grow; install the version that requirements.txt of `bulkhead new` names, and report it where that is the one"
    )]
    UnknownForm {
        /// Which componentize-py it was.
        version: String,
    },
}

/// What of a component `tool_version` of componentize-py has made: with its memory mended, and its language named.
///
/// # Errors
///
/// See [`Error`].
pub fn finish(component: &[u8], tool_version: &str) -> Result<Vec<u8>, Error> {
    let mut finished = if is_known(tool_version) {
        let unknown = || Error::UnknownForm {
            version: tool_version.to_owned(),
        };
        let (mended, places) = mend_component(component, 0)?.ok_or_else(unknown)?;
        if places == 0 {
            return Err(unknown());
        }
        mended
    } else {
        component.to_vec()
    };
    sign(&mut finished, tool_version);
    Ok(finished)
}

/// Whether it is known of this version of componentize-py what a component of it forgets.
#[must_use]
pub fn is_known(tool_version: &str) -> bool {
    FORGETFUL.contains(&tool_version)
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

/// What was made anew, and at how many places it was mended; `None` where something in it has an unknown form.
type Mended = Result<Option<(Vec<u8>, usize)>, BinaryReaderError>;

/// A component with every module in it mended.
fn mend_component(component: &[u8], depth: usize) -> Mended {
    if depth > MAX_DEPTH {
        return Ok(None);
    }
    let sections = sections(component)?;
    let mut mended = component[..HEADER].to_vec();
    let mut places = 0;
    for (id, range) in sections {
        let content = &component[range];
        let new = match id {
            CORE_MODULE => mend_module(content)?,
            COMPONENT => mend_component(content, depth + 1)?,
            _ => Some((content.to_vec(), 0)),
        };
        let Some((content, here)) = new else {
            return Ok(None);
        };
        put_section(&mut mended, id, &content);
        places += here;
    }
    Ok(Some((mended, places)))
}

/// The two functions of the interpreter that matter, by their numbers in a module that calls them.
struct Calls {
    pop_list: u32,
    dealloc: u32,
}

/// A module that hands lists out, mended; any other as it is.
fn mend_module(module: &[u8]) -> Mended {
    let sections = sections(module)?;
    let content = |wanted| {
        let mut all = sections.iter();
        all.find(|(id, _)| *id == wanted)
            .map(|(_, range)| &module[range.clone()])
    };
    let (Some(imports), Some(code)) = (content(IMPORTS), content(CODE)) else {
        return Ok(Some((module.to_vec(), 0)));
    };
    let Some(calls) = calls(imports)? else {
        return Ok(Some((module.to_vec(), 0)));
    };
    let Some((code, places)) = mend_code(code, &calls)? else {
        return Ok(None);
    };
    let mut mended = module[..HEADER].to_vec();
    for (id, range) in sections {
        let content = if id == CODE { &code } else { &module[range] };
        put_section(&mut mended, id, content);
    }
    Ok(Some((mended, places)))
}

fn calls(imports: &[u8]) -> Result<Option<Calls>, BinaryReaderError> {
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

/// A code section with every place mended at which a list is handed over.
fn mend_code(code: &[u8], calls: &Calls) -> Mended {
    let mut reader = BinaryReader::new(code, 0);
    let count = reader.read_var_u32()?;
    let mut mended = leb(count as usize);
    let mut places = 0;
    for _ in 0..count {
        let length = reader.read_var_u32()? as usize;
        let body = reader.read_bytes(length)?;
        let Some(additions) = additions(body, calls)? else {
            return Ok(None);
        };
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
    Ok(Some((mended, places)))
}

/// What is to be put into a function, each before the byte at this place.
type Additions = Vec<(usize, Vec<u8>)>;

/// In order. `None` where a call has no form that is known.
fn additions(body: &[u8], calls: &Calls) -> Result<Option<Additions>, BinaryReaderError> {
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
            let Some(addition) = free_bytes(&operators, place, calls.dealloc) else {
                return Ok(None);
            };
            additions.push(addition);
        }
        if function_index == calls.dealloc && !frees_arguments(&operators[..place]) {
            let Some(addition) = free_whatever_its_size(&operators, place) else {
                return Ok(None);
            };
            additions.push(addition);
        }
    }
    additions.sort_by_key(|(before, _)| *before);
    Ok(Some(additions))
}

/// Whether these end with what frees the place where a call's arguments stood, whose size is a constant.
fn frees_arguments(before: &[(Operator<'_>, usize)]) -> bool {
    matches!(
        before,
        [
            ..,
            (Operator::LocalGet { .. }, _),
            (Operator::LocalGet { .. }, _),
            (Operator::I32Const { .. }, _),
            (Operator::I32Const { .. }, _),
            (Operator::I32Const { value: 0 }, _),
        ]
    )
}

/// Where a list is freed, unless it has no size: without that condition.
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
