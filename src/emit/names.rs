//! Names in what is emitted.

use crate::btf::BtfError;
use crate::format::is_identifier;
use crate::layout::Layout;
use crate::layout::ctype::CType;

/// Whether what BTF names is a name in C: any text may be there, and what is emitted
/// will be compiled.
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
        // A declaration's parser reads no other text than a type.
        CType::Spelled { .. } => Ok(()),
    }
}

/// What has no name has an empty one.
fn check_name(name: &str) -> Result<(), BtfError> {
    match name.is_empty() || is_identifier(name) {
        true => Ok(()),
        false => Err(BtfError::Describe(format!(
            "{} is no name in C",
            name.escape_debug()
        ))),
    }
}

/// An event's name as an identifier: hyphens are legal in the one alone.
pub(super) fn identifier(name: &str) -> String {
    name.replace('-', "_")
}
