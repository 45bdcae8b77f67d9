//! Values that pointers of system calls point at: `*rqtp`, `*statbuf@exit`.
//!
//! A format file spells the type of an argument (`struct stat * statbuf`), and vmlinux's BTF has
//! the struct of that name. A program reads its bytes from the memory of the process: what the
//! kernel reads, when the call begins, and what the kernel writes, when the call returns and has
//! written it (`directions`).
//!
//! A kept value begins with a head of 16 bytes: a status, the length of the value in the process,
//! and how much of it was read. A value that is written is `AWAITED` at entry, and the program at
//! the exit of the call (`strings`) writes it in a second record.

use serde::{Deserialize, Serialize};

use super::directions::{
    Moment, Written, has_own_length, is_counted_by_result, moment_of, most_elements,
};
use super::error::PointeeError;
use super::lists;
use super::plan::{ChosenField, Keep, KeptField, Manner, Source};
use super::program::{CONTEXT, RECORD, SECOND, UNREADABLE, VALUE, WORD, load, narrow};
use crate::bpf::asm::{Alu, Assembler, Helper, Jump, Label, Reg, Size};
use crate::btf::NoShape;
use crate::context::access::Access;
use crate::error::Error;
use crate::format::{Field, FieldKind};
use crate::kernel::Tracepoint;
use crate::layout::shape::{MAX_ELEMENTS, MAX_SOCKET_ADDRESS, ValueShape};
use crate::name::SyscallSide;

/// How what a pointer points at is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pointee {
    pub(crate) shape: ValueShape,
    pub(crate) moment: Moment,
    pub(crate) length: PointeeLength,
}

/// How long it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum PointeeLength {
    /// As long as its type.
    Whole,
    /// An argument says it, an integer of `size` bytes: the number of parts of `unit` bytes. The
    /// kernel answers `error` to more than `most`.
    Argument {
        source: Source,
        size: u32,
        unit: u32,
        most: u32,
        error: i32,
    },
    /// The call returns the number of parts, of so many bytes each.
    Result { unit: u32 },
    /// An argument points at an `int` that says it: at entry, how much space there is, and at
    /// exit, how much is needed.
    Behind(Source),
}

/// Offsets in a kept pointee, in bytes: an i32, 0, a negative error or one of those below; a
/// u32, how long it is in the process; a u32, how much of it is here.
pub(crate) mod head {
    pub(crate) const STATUS: u32 = 0;
    pub(crate) const LENGTH: u32 = 4;
    pub(crate) const THERE: u32 = 8;
    pub(crate) const SIZE: u32 = 16;

    /// The pointer is NULL.
    pub(crate) const NULL: i32 = 1;
    /// The call returned, and has written nothing there.
    pub(crate) const UNWRITTEN: i32 = 2;
    /// The call has not returned.
    pub(crate) const AWAITED: i32 = 3;
    /// It is there, but for strings that could not be read.
    pub(crate) const PARTLY: i32 = 4;
    /// In place of a length that could not be read.
    pub(crate) const UNKNOWN: u32 = u32::MAX;
}

/// The most parts that a call can return to have written: more than `EP_MAX_EVENTS` (2³¹ bytes of
/// `struct epoll_event`).
const MOST_RETURNED: i32 = 1 << 28;

/// The arguments of a system call, of which what some point at is kept.
pub(crate) struct Pointers<'a> {
    tracepoint: &'a Tracepoint,
    accesses: &'a [(&'a Field, Option<Access<'a>>)],
    data_limit: u32,
}

impl<'a> Pointers<'a> {
    pub(crate) fn new(
        tracepoint: &'a Tracepoint,
        accesses: &'a [(&'a Field, Option<Access<'a>>)],
        data_limit: u32,
    ) -> Self {
        Self {
            tracepoint,
            accesses,
            data_limit,
        }
    }

    /// Returns what a name stands for, without its `*`: `rqtp`, `statbuf@exit`.
    pub(crate) fn chosen(&self, name: &str) -> Result<Result<ChosenField, PointeeError>, Error> {
        let (argument, moment) = match name.split_once('@') {
            None => (name, None),
            Some((argument, "entry")) => (argument, Some(Moment::Entry)),
            Some((argument, "exit")) => (argument, Some(Moment::Exit(Written::Unasked))),
            Some((_, other)) => {
                return Ok(Err(PointeeError::NoMoment {
                    moment: other.to_owned(),
                }));
            }
        };
        let side = SyscallSide::and_call(self.tracepoint.name());
        let Some((SyscallSide::Enter, call)) = side else {
            return Ok(Err(PointeeError::NotOfCall));
        };
        let mut indexed = self.accesses.iter().enumerate();
        let found = indexed.find(|(_, (field, _))| field.name() == argument);
        let Some((index, (field, Some(access)))) = found else {
            return Ok(Err(PointeeError::NoArgument));
        };
        let declaration = field.declaration();
        let spelled = || declaration.type_text().to_owned();
        let is_list = declaration.pointer_depth() == 2 && declaration.base_type() == "char";
        if is_list && field.kind() == FieldKind::Pointer {
            let (shape, capacity) = lists::shape(self.data_limit);
            let pointee = Pointee {
                shape,
                moment: moment.unwrap_or(Moment::Entry),
                length: PointeeLength::Whole,
            };
            return Ok(Ok(kept(name, access, pointee, capacity)));
        }
        if field.kind() != FieldKind::Pointer || declaration.pointer_depth() != 1 {
            return Ok(Err(PointeeError::NoStruct { is: spelled() }));
        }
        let Some(vmlinux) = self.tracepoint.kernel().vmlinux()? else {
            return Ok(Err(PointeeError::NoBtf));
        };
        let shape = match vmlinux.shape_named(&declaration.base_type()) {
            Ok(shape) => shape,
            Err(NoShape::None) => return Ok(Err(PointeeError::NoStruct { is: spelled() })),
            Err(NoShape::Several) => return Ok(Err(PointeeError::Several { is: spelled() })),
        };
        let Some(moment) = moment.or_else(|| moment_of(call, field)) else {
            return Ok(Err(PointeeError::BothWays {
                argument: argument.to_owned(),
            }));
        };
        let is_address = shape == ValueShape::SocketAddress;
        let unit = shape.size();
        let (shape, length) = match (self.elements_after(index, (call, argument), unit), moment) {
            (Some(length), _) => (self.array(shape), length),
            (None, Moment::Exit(_)) if is_counted_by_result(call, argument) => {
                (self.array(shape), PointeeLength::Result { unit })
            }
            (None, _) => match self.length_after(index, is_address) {
                Some(length) => (shape, length),
                None if is_address || has_own_length(call, argument) => {
                    return Ok(Err(PointeeError::NoLength));
                }
                None => (shape, PointeeLength::Whole),
            },
        };
        let capacity = shape.size().min(self.data_limit);
        let pointee = Pointee {
            shape,
            moment,
            length,
        };
        Ok(Ok(kept(name, access, pointee, capacity)))
    }

    /// Returns the shape of an array of as many elements as are kept.
    fn array(&self, element: ValueShape) -> ValueShape {
        let count = (self.data_limit / element.size().max(1)).clamp(1, MAX_ELEMENTS);
        ValueShape::Array {
            element: Box::new(element),
            count,
        }
    }

    /// Returns the length of an array of elements of so many bytes, if the argument after the
    /// pointer says how many there are.
    fn elements_after(
        &self,
        index: usize,
        (call, argument): (&str, &str),
        unit: u32,
    ) -> Option<PointeeLength> {
        let most = most_elements(call, argument)?;
        let (_, access) = self.accesses.get(index + 1)?;
        let access = access.as_ref()?;
        Some(PointeeLength::Argument {
            source: Source::of(access),
            size: access.size,
            unit,
            most,
            error: libc::EINVAL,
        })
    }

    /// Returns the length that the argument after a pointer says: of every address of a socket,
    /// and of structs that grow from kernel to kernel (`clone3`, `openat2`).
    fn length_after(&self, index: usize, is_address: bool) -> Option<PointeeLength> {
        /// `PAGE_SIZE`, or less (`copy_struct_from_user()` and its callers).
        const LONGEST: u32 = 4096;
        let (field, access) = self.accesses.get(index + 1)?;
        let declaration = field.declaration();
        let access = access.as_ref()?;
        let source = Source::of(access);
        let argument = |most, error| PointeeLength::Argument {
            source: source.clone(),
            size: access.size,
            unit: 1,
            most,
            error,
        };
        match (is_address, declaration.pointer_depth()) {
            // `move_addr_to_kernel()`, `net/socket.c`.
            (true, 0) if field.kind() == FieldKind::Scalar => {
                Some(argument(MAX_SOCKET_ADDRESS, libc::EINVAL))
            }
            (true, 1) if declaration.base_type() == "int" => Some(PointeeLength::Behind(source)),
            (false, 0) if matches!(field.name(), "size" | "usize" | "rseq_len") => {
                Some(argument(LONGEST, libc::E2BIG))
            }
            _ => None,
        }
    }

    /// Returns all that arguments point at and that has a type, by both moments where it is not
    /// known which is the right one.
    pub(crate) fn all(&self) -> Result<Vec<ChosenField>, Error> {
        let mut chosen = Vec::new();
        for (field, _) in self.accesses {
            let name = field.name();
            match self.chosen(name)? {
                Ok(one) => chosen.push(one),
                Err(PointeeError::BothWays { .. }) => {
                    for name in [format!("{name}@entry"), format!("{name}@exit")] {
                        chosen.extend(self.chosen(&name)?.ok());
                    }
                }
                Err(_) => {}
            }
        }
        Ok(chosen)
    }
}

/// Returns the field that keeps what an argument points at, of at most so many bytes.
fn kept(name: &str, access: &Access<'_>, pointee: Pointee, capacity: u32) -> ChosenField {
    ChosenField {
        name: format!("*{name}"),
        source: Source {
            manner: Manner::Pointee,
            ..Source::of(access)
        },
        keep: Keep::Pointee { capacity },
        names: Default::default(),
        pointee: Some(pointee),
    }
}

/// Where a program has the arguments.
#[derive(Clone, Copy)]
pub(super) enum Words<'a> {
    /// In the context, at entry.
    Context,
    /// In the map of threads, whose value is at `VALUE`, at exit: these, behind so many bytes.
    Kept(&'a [&'a Source], i16),
}

impl Words<'_> {
    /// `dst` = an argument. Uses `R0` to `R5`.
    pub(super) fn load(self, asm: &mut Assembler, source: &Source, dst: Reg) {
        match self {
            Self::Context => {
                // It is in the context, which can be read.
                let failed = asm.label();
                load(asm, source, dst, failed);
                asm.place(failed);
            }
            Self::Kept(sources, from) => {
                let at = sources.iter().position(|kept| kept.offset == source.offset);
                match at {
                    Some(at) => asm.load(Size::B8, dst, VALUE, from + 8 * at as i16),
                    None => asm.mov(dst, 0),
                }
            }
        }
    }

    /// The register for a length, which helpers keep.
    pub(super) fn length(self) -> Reg {
        match self {
            Self::Context => SECOND,
            // The result is in `SECOND`, and the context is not needed any more.
            Self::Kept(..) => CONTEXT,
        }
    }
}

pub(super) fn place(field: &KeptField, offset: u32) -> i16 {
    // Plans keep records small enough for this.
    (field.at + offset) as i16
}

/// Writes what there is at entry.
pub(super) fn write_at_entry(asm: &mut Assembler, field: &KeptField, pointee: &Pointee) {
    if pointee.moment == Moment::Entry {
        return read(asm, field, pointee, Words::Context);
    }
    let done = asm.label();
    load_address(asm, field, Words::Context, done);
    let status = place(field, head::STATUS);
    asm.store_imm(Size::B4, RECORD, status, head::AWAITED);
    let length = place(field, head::LENGTH);
    asm.store_imm(Size::B4, RECORD, length, head::UNKNOWN as i32);
    asm.store_imm(Size::B4, RECORD, place(field, head::THERE), 0);
    if let PointeeLength::Behind(source) = &pointee.length {
        load_behind(asm, source, Words::Context, done);
        asm.store(Size::B4, RECORD, length, Words::Context.length());
    }
    asm.place(done);
}

/// Writes what there is at exit. `SECOND` is the result of the call.
pub(super) fn write_at_exit(
    asm: &mut Assembler,
    field: &KeptField,
    pointee: &Pointee,
    words: Words<'_>,
) {
    /// Of `include/linux/errno.h`.
    const ERESTART_RESTARTBLOCK: i32 = 516;
    let done = asm.label();
    let status = place(field, head::STATUS);
    if let Moment::Exit(written) = pointee.moment {
        asm.store_imm(Size::B4, RECORD, status, head::UNWRITTEN);
        match written {
            Written::OnSuccess => asm.jump_if(Jump::SLt, SECOND, 0, done),
            Written::OnPositive => asm.jump_if(Jump::SLe, SECOND, 0, done),
            Written::OnRestart => {
                asm.jump_if(Jump::Ne, SECOND, -ERESTART_RESTARTBLOCK, done);
            }
            Written::Unasked => {}
        }
    }
    read(asm, field, pointee, words);
    asm.place(done);
}

/// `R3` = the address; goes on at `done` where it is NULL, and says so.
pub(super) fn load_address(asm: &mut Assembler, field: &KeptField, words: Words<'_>, done: Label) {
    asm.store_imm(Size::B4, RECORD, place(field, head::STATUS), head::NULL);
    words.load(asm, &field.source, Reg::R3);
    asm.jump_if(Jump::Eq, Reg::R3, 0, done);
}

/// The register for lengths = the `int` that an argument points at.
fn load_behind(asm: &mut Assembler, source: &Source, words: Words<'_>, failed: Label) {
    words.load(asm, source, Reg::R3);
    asm.address(Reg::R1, Reg::Fp, WORD.into());
    asm.mov(Reg::R2, 4);
    asm.call(Helper::ProbeReadUser);
    asm.jump_if(Jump::Ne, Reg::R0, 0, failed);
    asm.load(Size::B4, words.length(), Reg::Fp, WORD);
}

fn read(asm: &mut Assembler, field: &KeptField, pointee: &Pointee, words: Words<'_>) {
    if let ValueShape::Strings(list) = pointee.shape {
        return lists::read(asm, field, list, words);
    }
    let done = asm.label();
    let length = words.length();
    let status = place(field, head::STATUS);
    let capacity = field.capacity() as i32;
    load_address(asm, field, words, done);
    let keep_length = |asm: &mut Assembler| {
        asm.store(Size::B4, RECORD, place(field, head::LENGTH), length);
        let fits = asm.label();
        asm.jump_if(Jump::Le, length, capacity, fits);
        asm.mov(length, capacity);
        asm.place(fits);
        asm.store(Size::B4, RECORD, place(field, head::THERE), length);
    };
    match &pointee.length {
        PointeeLength::Whole => {
            let size = pointee.shape.size() as i32;
            asm.store_imm(Size::B4, RECORD, place(field, head::LENGTH), size);
            asm.store_imm(Size::B4, RECORD, place(field, head::THERE), capacity);
        }
        PointeeLength::Argument {
            source,
            size,
            unit,
            most,
            error,
        } => {
            asm.store_imm(Size::B4, RECORD, status, -error);
            words.load(asm, source, length);
            narrow(asm, length, source.size, *size, false);
            asm.jump_if(Jump::Gt, length, *most as i32, done);
            if *unit > 1 {
                asm.alu(Alu::Mul, length, *unit as i32);
            }
            keep_length(asm);
        }
        PointeeLength::Result { unit } => {
            let (positive, bounded) = (asm.label(), asm.label());
            asm.mov_reg(length, SECOND);
            asm.jump_if(Jump::SGt, length, 0, positive);
            asm.mov(length, 0);
            asm.place(positive);
            // No call returns more; the user may have asked what is there after any.
            asm.jump_if(Jump::Le, length, MOST_RETURNED, bounded);
            asm.mov(length, MOST_RETURNED);
            asm.place(bounded);
            asm.alu(Alu::Mul, length, *unit as i32);
            keep_length(asm);
        }
        PointeeLength::Behind(source) => {
            asm.store_imm(Size::B4, RECORD, status, UNREADABLE);
            let unknown = head::UNKNOWN as i32;
            asm.store_imm(Size::B4, RECORD, place(field, head::LENGTH), unknown);
            load_behind(asm, source, words, done);
            keep_length(asm);
        }
    }
    words.load(asm, &field.source, Reg::R3);
    asm.address(Reg::R1, RECORD, place(field, head::SIZE).into());
    match pointee.length {
        PointeeLength::Whole => asm.mov(Reg::R2, capacity),
        PointeeLength::Argument { .. }
        | PointeeLength::Behind(_)
        | PointeeLength::Result { .. } => {
            asm.mov_reg(Reg::R2, length);
        }
    }
    asm.call(Helper::ProbeReadUser);
    asm.store(Size::B4, RECORD, status, Reg::R0);
    asm.place(done);
}

/// Limits what was written at exit to the space that there was at entry, of the bytes of the
/// field at both.
pub(super) fn limit_to_space(field: &KeptField, at_entry: &[u8], at_exit: &mut [u8]) {
    let is_limited = field
        .pointee
        .as_ref()
        .is_some_and(|one| matches!(one.length, PointeeLength::Behind(_)));
    let word = |at: u32| at as usize..at as usize + 4;
    let (Some(space), true) = (at_entry.get(word(head::LENGTH)), is_limited) else {
        return;
    };
    let space = space.try_into().map_or(head::UNKNOWN, u32::from_ne_bytes);
    let there = at_exit.get(word(head::THERE)).unwrap_or_default();
    let there = there.try_into().map_or(0, u32::from_ne_bytes);
    let (at, value) = match space {
        // Nobody knows how much of it the call has written.
        head::UNKNOWN => (head::STATUS, UNREADABLE as u32),
        space => (head::THERE, there.min(space)),
    };
    if let Some(place) = at_exit.get_mut(word(at)) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length at exit is limited by the space at entry.
    #[test]
    fn no_more_than_there_was_space_for() {
        let source = Source {
            manner: Manner::Word,
            base: super::super::plan::SourceBase::Context,
            is_loadable: true,
            offset: 32,
            size: 8,
            bits: None,
        };
        let mut field = KeptField {
            name: "*usockaddr".to_owned(),
            source: source.clone(),
            keep: Keep::Pointee { capacity: 128 },
            at: 0,
            status: None,
            names: Default::default(),
            pointee: Some(Pointee {
                shape: ValueShape::SocketAddress,
                moment: Moment::Exit(Written::OnSuccess),
                length: PointeeLength::Behind(source),
            }),
        };
        let kept = |status: i32, length: u32, there: u32| {
            let words = [status as u32, length, there, 0];
            let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
            bytes.collect::<Vec<u8>>()
        };
        let limited = |field: &KeptField, space: u32| {
            let mut at_exit = kept(0, 16, 16);
            limit_to_space(field, &kept(head::AWAITED, space, 0), &mut at_exit);
            at_exit
        };
        assert_eq!(limited(&field, 28), kept(0, 16, 16));
        assert_eq!(limited(&field, 4), kept(0, 16, 4));
        assert_eq!(limited(&field, head::UNKNOWN), kept(UNREADABLE, 16, 16));
        limit_to_space(&field, &[], &mut []);
        limit_to_space(&field, &kept(0, 1, 1), &mut []);
        if let Some(pointee) = &mut field.pointee {
            pointee.length = PointeeLength::Whole;
        }
        assert_eq!(limited(&field, 4), kept(0, 16, 16));
    }
}
