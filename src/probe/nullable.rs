//! Which arguments of a tracepoint may be NULL, by the running kernel's own word.

use std::io;

use super::attach::{loads_are_safe, with_memory};
use super::error::ProbeError;
use super::probed::{RawEvent, RawProgram};
use crate::bpf::asm::{Assembler, Jump, Reg, Size};
use crate::bpf::sys::{self, ProgramType};
use crate::kernel::Kernel;

/// What the verifier takes an argument of a tracepoint for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ArgumentNullness {
    /// The address of a struct.
    Never,
    /// The address of a struct, or NULL: a `tp_btf` program has to test it before it loads.
    MayBeNull,
    /// A number, from whose address no program loads directly: no pointer, one to no struct,
    /// or one that may be an error's number.
    Number,
}

/// Asks the running kernel which arguments of a tracepoint may be NULL: their names, in order.
/// `None` if the kernel does not know (before Linux 6.13, unless updated), or takes no `tp_btf`
/// programs. It loads some small programs, and attaches none.
///
/// ```no_run
/// use tracepoints::Kernel;
/// use tracepoints::probe::{ArgumentNullness, nullable_arguments};
///
/// let kernel = Kernel::live()?;
/// for (name, nullness) in nullable_arguments(&kernel, "sched_pi_setprio")?.unwrap_or_default() {
///     if nullness == ArgumentNullness::MayBeNull {
///         println!("{name}"); // pi_task
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of [`Kernel::raw_tracepoint`]; [`ProbeError::Ambiguous`].
pub fn nullable_arguments(
    kernel: &Kernel,
    tracepoint: &str,
) -> Result<Option<Vec<(String, ArgumentNullness)>>, ProbeError> {
    let raw = RawEvent::new(kernel, tracepoint, RawProgram::TpBtf)?;
    // Modules' are all taken for such as may be NULL, where they are not known.
    if !loads_are_safe(kernel) || raw.home.base().is_some() {
        return Ok(None);
    }
    let Some(typedef) = raw.home.index().event_typedef(tracepoint) else {
        return Ok(None);
    };
    let kind = ProgramType::TpBtf {
        typedef,
        module: None,
    };
    let types = raw.home.argument_types(tracepoint);
    // The verifier takes anything but a pointer for a number, behind any typedefs and qualifiers
    // (`btf_ctx_access()` of `kernel/bpf/btf.c`, since programs know types).
    let is_number = |index: usize| {
        let ty = raw.home.section().resolve(*types.get(index)?);
        ty.map(|(_, ty)| !ty.is_pointer() && !ty.is_of_unknown_kind())
    };
    let names = raw.arguments()?.into_iter().enumerate();
    let asked = names.map(|(index, name)| match is_number(index) {
        Some(true) => (name, ArgumentNullness::Number),
        _ => (name, nullness(kind, index as i16)),
    });
    Ok(Some(asked.collect()))
}

fn nullness(kind: ProgramType, argument: i16) -> ArgumentNullness {
    // The struct may begin with a member of any size.
    let sizes = [Size::B8, Size::B4, Size::B2, Size::B1];
    let takes = |is_tested| {
        let mut sizes = sizes.into_iter();
        sizes.any(|size| load(kind, argument, size, is_tested).is_ok())
    };
    // Each load takes the kernel about as long as reading BTF's names once.
    match () {
        () if takes(false) => ArgumentNullness::Never,
        () if takes(true) => ArgumentNullness::MayBeNull,
        () => ArgumentNullness::Number,
    }
}

/// Loads a program that loads from an argument, having tested it or not.
fn load(kind: ProgramType, argument: i16, size: Size, is_tested: bool) -> io::Result<()> {
    let mut asm = Assembler::default();
    let out = asm.label();
    asm.load(Size::B8, Reg::R1, Reg::R1, 8 * argument);
    if is_tested {
        asm.jump_if(Jump::Eq, Reg::R1, 0, out);
    }
    asm.load(size, Reg::R1, Reg::R1, 0);
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    let program = asm.finish().map_err(|_| io::ErrorKind::InvalidData)?;
    with_memory(|| sys::load_program(kind, &program, "tracepoints", &mut [])).map(drop)
}
