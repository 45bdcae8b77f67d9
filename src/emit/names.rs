//! Names in emitted source.

use std::fmt::Write as _;

use crate::btf::BtfError;
use crate::format::is_identifier;
use crate::layout::Layout;
use crate::layout::ctype::CType;

/// Checks that all names are identifiers in C: BTF may contain any text, and emitted
/// source is compiled.
pub(super) fn check_names(layout: &Layout) -> Result<(), BtfError> {
    check_name(layout.name().unwrap_or_default())?;
    for slot in layout.slots() {
        check_name(slot.name())?;
        check_type(&slot.ty)?;
    }
    Ok(())
}

fn check_type(ty: &CType) -> Result<(), BtfError> {
    match ty {
        CType::Void => Ok(()),
        // `long unsigned int`
        CType::Int { name, .. } | CType::Float { name, .. } => {
            name.split(' ').try_for_each(check_name)
        }
        CType::Typedef { name, target } => {
            check_name(name)?;
            check_type(target)
        }
        CType::Enum { name, values, .. } => {
            check_name(name.as_deref().unwrap_or_default())?;
            values.iter().try_for_each(|(name, _)| check_name(name))
        }
        CType::Record { name, body, .. } => {
            check_name(name.as_deref().unwrap_or_default())?;
            body.as_deref().map_or(Ok(()), check_names)
        }
        CType::Pointer { target, .. } | CType::Qualified { target, .. } => check_type(target),
        CType::Array { element, .. } => check_type(element),
        CType::Function {
            result, parameters, ..
        } => {
            check_type(result)?;
            parameters.iter().try_for_each(check_type)
        }
        // The parser of declarations accepts only types.
        CType::Spelled { .. } => Ok(()),
    }
}

/// Checks one name, which is empty for an anonymous type.
fn check_name(name: &str) -> Result<(), BtfError> {
    match name.is_empty() || is_identifier(name) {
        true => Ok(()),
        false => Err(BtfError::Describe(format!(
            "{} is not a name in C",
            name.escape_debug()
        ))),
    }
}

/// Returns an event's name, or half of it, as an identifier. `-` becomes `_`; any other
/// byte that an identifier cannot have becomes its number, as in `test_x2e_0` for
/// `test.0`, which stays different from `test_0`. A leading digit gets a `_` before it.
pub(super) fn identifier(name: &str) -> String {
    let mut identifier = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        identifier.push('_');
    }
    for byte in name.bytes() {
        match byte {
            b'-' => identifier.push('_'),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => identifier.push(byte.into()),
            other => {
                let _ = write!(identifier, "_x{other:02x}_");
            }
        }
    }
    identifier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_as_identifiers() {
        for (name, expected) in [
            ("sched_switch", "sched_switch"),
            ("hv-pci", "hv_pci"),
            ("9p_client_req", "_9p_client_req"),
            ("802154_drv_start", "_802154_drv_start"),
            ("test.0", "test_x2e_0"),
            ("test_0", "test_0"),
            ("-x", "_x"),
        ] {
            assert_eq!(identifier(name), expected);
            assert!(is_identifier(&identifier(name)), "{name}");
        }
    }
}
