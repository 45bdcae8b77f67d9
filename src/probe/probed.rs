//! What is probed: an event, or a raw tracepoint.

use std::sync::Arc;

use super::constants;
use super::error::ProbeError;
use super::plan::{
    Argument, ChosenField, Content, EventPlan, Keep, Manner, Source, SourceBase, TASK_WORDS,
};
use super::program::FieldSource;
use crate::btf::{ArgumentPath, Leaf, Object, PathError};
use crate::context::access::Access;
use crate::error::Error;
use crate::filter::{BoundFilter, Filter, FilterError};
use crate::format::print::{FieldPrint, NamedValue};
use crate::format::{Field, Format, PathKind};
use crate::kernel::{Kernel, Tracepoint};
use crate::layout::bits::BitShift;
use crate::name::EventName;

/// An event or a raw tracepoint.
#[derive(Clone, Debug)]
pub(crate) enum Probed {
    Event(Tracepoint),
    Raw(RawEvent),
}

/// A raw tracepoint, which is probed by its arguments.
#[derive(Clone, Debug)]
pub(crate) struct RawEvent {
    /// `raw_tp:NAME`, or `tp_btf:NAME`.
    pub(crate) name: EventName,
    pub(crate) kernel: Kernel,
    /// The object that defines it.
    pub(crate) home: Arc<Object>,
    pub(crate) program: RawProgram,
}

/// The type of the program that a raw tracepoint gets.
///
/// Both run in the same place, and get the same arguments. The types that `tp_btf` has for
/// them let its program load from structs directly, where `raw_tp` calls a helper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RawProgram {
    /// `tp_btf` where it loads directly, and `raw_tp` elsewhere.
    #[default]
    Cheapest,
    /// `raw_tp`: `BPF_PROG_TYPE_RAW_TRACEPOINT`.
    RawTp,
    /// `tp_btf`: `BPF_PROG_TYPE_TRACING`, attached by `BPF_TRACE_RAW_TP` (Linux 5.5; in
    /// modules 5.11).
    TpBtf,
}

/// How a program gets its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// The record of an event.
    Event,
    /// Arguments, as numbers.
    RawTp,
    /// Arguments with their types.
    TpBtf {
        /// Whether structs that arguments point at are loaded from. A load where an
        /// argument is NULL crashes kernels that do not know which may be
        /// (`attach::loads_are_safe`).
        is_direct: bool,
    },
}

impl Probed {
    pub(crate) fn name(&self) -> &EventName {
        match self {
            Self::Event(event) => event.name(),
            Self::Raw(raw) => &raw.name,
        }
    }

    /// Returns the event's id; `None` for a raw tracepoint.
    pub(crate) fn id(&self) -> Option<u32> {
        match self {
            Self::Event(event) => event.id(),
            Self::Raw(_) => None,
        }
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        match self {
            Self::Event(event) => event.kernel(),
            Self::Raw(raw) => &raw.kernel,
        }
    }

    /// How its programs may get at their values, what is tried first before the rest. `is_safe`
    /// says whether the kernel knows which arguments may be NULL.
    pub(crate) fn hooks(&self, is_safe: bool) -> Vec<Hook> {
        let typed = |is_direct| Hook::TpBtf { is_direct };
        match self {
            Self::Event(_) => vec![Hook::Event],
            Self::Raw(raw) => match (raw.program, is_safe) {
                (RawProgram::Cheapest, true) => vec![typed(true), Hook::RawTp],
                (RawProgram::Cheapest, false) | (RawProgram::RawTp, _) => vec![Hook::RawTp],
                (RawProgram::TpBtf, true) => vec![typed(true), typed(false)],
                (RawProgram::TpBtf, false) => vec![typed(false)],
            },
        }
    }

    /// Returns what is kept of it: these fields, or all.
    pub(crate) fn plan(
        &self,
        wanted: Option<&[String]>,
        data_limit: u32,
        hook: Hook,
    ) -> Result<EventPlan, ProbeError> {
        match self {
            Self::Event(event) => EventPlan::new(event, wanted, data_limit),
            Self::Raw(raw) => raw.plan(wanted, data_limit, hook),
        }
    }
}

impl RawEvent {
    pub(crate) fn new(
        kernel: &Kernel,
        name: &str,
        program: RawProgram,
    ) -> Result<Self, ProbeError> {
        let mut homes = kernel.homes_of_raw(name)?;
        let category = match program {
            RawProgram::TpBtf => "tp_btf",
            _ => "raw_tp",
        };
        let missing = || {
            ProbeError::Kernel(Error::NoRawTracepoint {
                name: name.escape_debug().to_string(),
            })
        };
        let name = EventName::of_directories(category, name).map_err(|_| missing())?;
        if let [_, _, ..] = homes.as_slice() {
            return Err(ProbeError::Ambiguous {
                tracepoint: name,
                homes: homes.iter().map(|home| home.name().to_owned()).collect(),
            });
        }
        Ok(Self {
            name,
            kernel: kernel.clone(),
            home: homes.pop().ok_or_else(missing)?,
            program,
        })
    }

    /// Binds a filter to what [`filtered`](Self::filtered) returned for it.
    pub(crate) fn bind<'f>(
        &self,
        filter: &Filter,
        format: &'f Format,
        prints: &[FieldPrint],
    ) -> Result<BoundFilter<'f>, ProbeError> {
        let names_of = |field: &str| {
            let mut fields = format.fields().iter().zip(prints);
            let found = fields.find(|(known, _)| known.name() == field);
            found.map(|(_, print)| print.clone()).unwrap_or_default()
        };
        let constant = |_: &str, name: &str| self.kernel.constant(name);
        let bound = filter.bind_with(format, &names_of, &constant);
        bound.map_err(|source| ProbeError::Filter {
            event: self.name.clone(),
            source,
        })
    }

    fn path(&self, text: &str) -> Result<ArgumentPath, ProbeError> {
        let path = self.home.argument_path(self.name.event(), text);
        path.map_err(|source| ProbeError::Path {
            tracepoint: self.name.clone(),
            source: Box::new(source),
        })
    }

    /// The names of the arguments.
    pub(crate) fn arguments(&self) -> Result<Vec<String>, ProbeError> {
        let names = self.home.argument_names(self.name.event());
        names.map_err(|source| ProbeError::Path {
            tracepoint: self.name.clone(),
            source: Box::new(PathError::Types {
                path: self.name.event().to_owned(),
                source,
            }),
        })
    }

    fn plan(
        &self,
        wanted: Option<&[String]>,
        data_limit: u32,
        hook: Hook,
    ) -> Result<EventPlan, ProbeError> {
        let arguments = self.arguments()?;
        let mut chosen = Vec::new();
        for name in wanted.unwrap_or(&arguments) {
            // Every record has them.
            if TASK_WORDS.contains(&name.as_str()) && !arguments.contains(name) {
                continue;
            }
            let path = self.path(name)?;
            let (source, keep) = read(&path, data_limit, hook);
            chosen.push(ChosenField {
                pointee: None,
                name: name.clone(),
                source,
                keep,
                names: match path.leaf {
                    Leaf::Integer { names, .. } => names.into(),
                    _ => Arc::default(),
                },
            });
        }
        EventPlan::of_choices(&self.name, chosen)
    }

    /// The values that a filter asks for, as fields of a format, and where each is.
    pub(crate) fn filtered(
        &self,
        filter: &Filter,
        hook: Hook,
    ) -> Result<(Format, Vec<Source>, Vec<FieldPrint>), ProbeError> {
        let arguments = self.arguments()?;
        let (mut fields, mut sources, mut prints) = (Vec::<Field>::new(), Vec::new(), Vec::new());
        let mut add = |fields: &mut Vec<Field>, text: &str, path: &ArgumentPath| {
            let offset = 8 * fields.len() as u32;
            fields.push(Field::of_path(text, kind(&path.leaf), offset));
            sources.push(read(path, 0, hook).0);
            prints.push(print_of(&path.leaf));
        };
        for word in filter.names() {
            let end = word.find(['-', '.', '[']).unwrap_or(word.len());
            // A word of the task, or the name of a value.
            let is_path = arguments.iter().any(|name| *name == word[..end]) || end < word.len();
            if !is_path || fields.iter().any(|field| field.name() == word) {
                continue;
            }
            add(&mut fields, word, &self.path(word)?);
        }
        // For the error that lists what there is.
        for name in arguments {
            if fields.iter().all(|field| field.name() != name)
                && let Ok(path) = self.path(&name)
            {
                add(&mut fields, &name, &path);
            }
        }
        let format = Format::of_paths(self.name.event(), fields);
        Ok((format, sources, prints))
    }
}

pub(crate) fn condition_on_event<'e>(
    event: &'e Tracepoint,
    filter: &Filter,
) -> Result<BoundFilter<'e>, ProbeError> {
    let names_of = |field: &str| event.field_print(field).unwrap_or_default();
    let constant = |field: &str, name: &str| constants::value(event, field, name);
    let bound = filter.bind_with(event.format(), &names_of, &constant);
    bound.map_err(|source| ProbeError::Filter {
        event: event.name().clone(),
        source,
    })
}

/// Where in the context the fields are that a filter asks for.
pub(crate) fn sources_on_event<'e>(
    event: &'e Tracepoint,
    bound: &BoundFilter<'_>,
) -> Result<Vec<FieldSource<'e>>, ProbeError> {
    let name = || event.name().clone();
    let context = event.context()?;
    let mut sources = Vec::new();
    for (field, access) in Access::of_fields(event.format(), &context)? {
        match access {
            // The rest of the record, of which a program does not know the end.
            Some(access)
                if access.slot.size() == 0
                    && !field.kind().is_dynamic()
                    && bound.asks_for(field) =>
            {
                return Err(ProbeError::Filter {
                    event: name(),
                    source: FilterError::Incomparable {
                        field: field.name().to_owned(),
                        is: "an array of no size",
                        with: "anything by a program",
                    },
                });
            }
            Some(access) => sources.push((field, Source::of(&access))),
            None if bound.asks_for(field) => {
                return Err(ProbeError::NotInContext {
                    event: name(),
                    field: field.name().to_owned(),
                });
            }
            None => {}
        }
    }
    Ok(sources)
}

fn kind(leaf: &Leaf) -> PathKind {
    match *leaf {
        // It is compared by what it is once it is shifted.
        Leaf::Integer { size, signed, .. } => PathKind::Integer { size, signed },
        Leaf::Pointer { size } => PathKind::Pointer { size },
        Leaf::TextPointer { .. } | Leaf::Text { .. } => PathKind::Text,
        Leaf::Integers {
            element,
            signed,
            size,
        } => PathKind::Integers {
            element,
            signed,
            size,
        },
        Leaf::Bytes { size } => PathKind::Bytes { size },
    }
}

fn print_of(leaf: &Leaf) -> FieldPrint {
    let mut print = FieldPrint::default();
    if let Leaf::Integer { names, .. } = leaf {
        let names = names.iter();
        let named = names.map(|(name, value)| NamedValue {
            value: Some(*value as u64),
            name: name.clone(),
        });
        print.symbols = named.collect();
    }
    print
}

/// How a value is read, and kept.
fn read(path: &ArgumentPath, data_limit: u32, hook: Hook) -> (Source, Keep) {
    let integer = |size, signed, pointer| Keep::Integer {
        word: size,
        size,
        signed,
        pointer,
    };
    let fixed = |size: u32, content| Keep::Fixed {
        copied: size.min(data_limit),
        whole: size,
        content,
    };
    let text = Keep::Variable {
        capacity: data_limit,
        content: Content::Text,
    };
    let (manner, mut size, mut keep, bits) = match path.leaf {
        Leaf::Integer {
            size,
            signed,
            bits: None,
            ..
        } => (Manner::Word, size, integer(size, signed, false), None),
        Leaf::Integer {
            size,
            signed,
            bits: Some((first, width)),
            ..
        } => {
            let shift = BitShift::new(size, signed, first, width);
            (Manner::Word, size, integer(8, signed, false), Some(shift))
        }
        Leaf::Pointer { size } => (Manner::Word, size, integer(size, false, true), None),
        Leaf::TextPointer { size, of_user } => {
            let manner = if of_user {
                Manner::UserText
            } else {
                Manner::KernelText
            };
            (manner, size, text, None)
        }
        Leaf::Text { size: 0 } => (Manner::Begins, 0, text, None),
        Leaf::Text { size } => (Manner::Text, size, fixed(size, Content::Text), None),
        Leaf::Integers {
            element,
            signed,
            size,
        } => {
            let content = Content::Integers {
                size: element,
                signed,
            };
            (Manner::Bytes, size, fixed(size, content), None)
        }
        Leaf::Bytes { size } => (Manner::Bytes, size, fixed(size, Content::Bytes), None),
    };
    let source = match &path.place {
        Some(place) => Source {
            manner,
            is_loadable: hook == (Hook::TpBtf { is_direct: true })
                && place.hops.is_empty()
                && manner == Manner::Word
                && place.offset < 1 << 15
                && place.offset.is_multiple_of(size.max(1)),
            offset: place.offset,
            size,
            bits,
            base: SourceBase::Argument(Argument {
                index: path.argument,
                is_loadable: hook != (Hook::TpBtf { is_direct: false }),
                hops: place.hops.as_slice().into(),
                pointer_size: place.pointer_size,
            }),
        },
        // An argument is a number of 64 bits, whatever its type.
        None => {
            if let Keep::Integer { word, .. } = &mut keep {
                *word = 8;
            }
            let mut offset = 8 * path.argument;
            match manner {
                Manner::Word | Manner::UserText | Manner::KernelText => size = 8,
                // A small struct, in the low bytes.
                _ if cfg!(target_endian = "big") => offset += 8u32.saturating_sub(size),
                _ => {}
            }
            Source {
                manner,
                base: SourceBase::Context,
                is_loadable: hook == Hook::RawTp && size == 8,
                offset,
                size,
                bits,
            }
        }
    };
    (source, keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Probe;

    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/6.18.15-x86_64");

    fn refused(tracepoint: &str, path: &str) -> String {
        let kernel = Kernel::at(FIXTURE).expect("a kernel");
        let builder = Probe::builder([]).raw_tracepoint(&kernel, tracepoint, RawProgram::Cheapest);
        let error = match builder {
            Ok(builder) => builder
                .fields([path])
                .attach()
                .expect_err("it is a fixture"),
            Err(error) => error,
        };
        let source = std::error::Error::source(&error);
        format!(
            "{error}: {}",
            source.map(ToString::to_string).unwrap_or_default()
        )
    }

    #[test]
    fn wrong_paths_list_what_is_there() {
        let mut all = String::new();
        for (tracepoint, path) in [
            ("sched_switch", "prve"),
            ("sched_switch", "prev-"),
            ("sched_switch", "arg0->x"),
            ("sched_switch", "arg0[0]"),
            ("sched_switch", "arg1"),
            ("sys_enter", "arg0->axx"),
            ("sys_enter", "arg0->ax->x"),
            ("sys_enter", "arg0[1].ax[2]"),
            ("nothing", "x"),
            ("no/name", "x"),
        ] {
            all += &format!("{tracepoint} {path}\n  {}\n", refused(tracepoint, path));
        }
        insta::assert_snapshot!(all);
    }
}
