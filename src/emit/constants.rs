//! Names of fields' bits and values in print fmts, as constants.

use std::collections::HashMap;
use std::fmt::Write;

use crate::format::print::PrintFmtError;
use crate::kernel::Tracepoint;

/// Returns the names of an event's flags and values in C: one `#define` each, in the
/// order the kernel tries them; empty if its print fmt has none.
///
/// The constants begin with the names of event and field, in capitals, because other events
/// use the same names for other values. Enumerators of unknown value are left out, and
/// listed in a comment.
///
/// # Errors
///
/// [`PrintFmtError`] if the print fmt cannot be parsed.
///
/// ```
/// use tracepoints::{Kernel, emit};
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let switch = kernel.tracepoint("sched:sched_switch")?;
/// let constants = emit::constants_c(&switch)?;
/// assert!(constants.contains("#define SCHED_SWITCH_PREV_STATE_D 0x2ULL\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn constants_c(tracepoint: &Tracepoint) -> Result<String, PrintFmtError> {
    write(
        tracepoint,
        |name, value| format!("#define {name} {value:#x}ULL\n"),
        |comment| format!("/* {comment} */\n"),
    )
}

/// Like [`constants_c`], in Rust: one `pub const` of type `u64` each.
///
/// # Errors
///
/// Those of [`constants_c`].
pub fn constants_rust(tracepoint: &Tracepoint) -> Result<String, PrintFmtError> {
    write(
        tracepoint,
        |name, value| format!("pub const {name}: u64 = {value:#x};\n"),
        |comment| format!("// {comment}\n"),
    )
}

fn write(
    tracepoint: &Tracepoint,
    constant: impl Fn(&str, u64) -> String,
    comment: impl Fn(&str) -> String,
) -> Result<String, PrintFmtError> {
    let mut text = String::new();
    let mut taken: HashMap<String, u64> = HashMap::new();
    for field in tracepoint.format().fields() {
        let print = tracepoint.field_print(field.name())?;
        let Some(kind) = print.as_str().filter(|_| print.names().next().is_some()) else {
            continue;
        };
        let about = format!("{} of {}, {kind}", field.name(), tracepoint.name());
        text += &comment(&about);
        for named in print.names() {
            let Some(value) = named.value else {
                let unknown = format!("{}: its value is not known", named.name.escape_debug());
                // A name must not end the comment.
                text += &comment(&unknown.replace("*/", "* /"));
                continue;
            };
            let name = identifier(tracepoint.name().event(), field.name(), &named.name);
            let mut unique = name.clone();
            let mut count = 1;
            while taken.get(&unique).is_some_and(|known| *known != value) {
                count += 1;
                unique = format!("{name}_{count}");
            }
            if taken.insert(unique.clone(), value).is_none() {
                text += &constant(&unique, value);
            }
        }
    }
    Ok(text)
}

/// Returns an identifier of capitals and digits, with `_` for any other character.
fn identifier(event: &str, field: &str, name: &str) -> String {
    let mut identifier = String::new();
    let _ = write!(identifier, "{event}_{field}_{name}");
    // A name may begin with a digit: `9p:9p_protocol_dump`.
    if identifier.starts_with(|c: char| c.is_ascii_digit()) {
        identifier.insert(0, '_');
    }
    let plain = identifier.chars().map(|c| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    });
    plain.collect()
}
