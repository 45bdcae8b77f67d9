//! Enumerators in BTF by name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::btf::Object;

/// Limit on enumerators, far above the number of any kernel.
const MAX_ENUMERATORS: usize = 1 << 20;

/// Limit on a name's length in bytes: longer names are left out.
const MAX_ENUMERATOR: usize = 256;

pub(super) type Enumerators = HashMap<Box<str>, Option<i64>>;

/// Returns all enumerators of these objects; `None` for a name with several values.
/// `None` for all if there are more than any kernel has, since those not examined might
/// have other values.
pub(super) fn enumerators(objects: &[Arc<Object>]) -> Option<Enumerators> {
    let mut count = 0;
    let mut constants = Enumerators::new();
    for object in objects {
        let section = object.section();
        let first = object.base().map_or(1, |base| base.section().end_id());
        for ty in (first..section.end_id()).filter_map(|id| section.type_by_id(id)) {
            for (name, value) in ty.enumerators() {
                count += 1;
                if count > MAX_ENUMERATORS {
                    return None;
                }
                let Ok(name) = std::str::from_utf8(name) else {
                    continue;
                };
                if name.len() > MAX_ENUMERATOR {
                    continue;
                }
                constants
                    .entry(name.into())
                    .and_modify(|known| *known = known.filter(|known| *known == value))
                    .or_insert(Some(value));
            }
        }
    }
    Some(constants)
}
