//! Conditions on an event's fields and on the task it happens in, for the kernel
//! to check in a probe's program and for userspace on a record.

mod parse;

use std::fmt;
use std::str::FromStr;

use crate::format::{Field, FieldKind, Format};
use crate::record::{Record, RecordError};

/// The longest string a field can be compared with, in bytes.
const TEXT: usize = 63;

/// The longest name a task can have, in bytes: one less than `TASK_COMM_LEN`.
const COMM: usize = 15;

/// A condition: `ret < 0 && comm == "rm"`.
///
/// Comparisons are `==`, `!=`, `<`, `<=`, `>` and `>=` of an integer field with a
/// number (decimal, `0x…`, or octal with a leading `0`), also of some of its bits:
/// `flags & 0x200`, alone or compared. Strings are compared by `==` and `!=`, with
/// at most 63 bytes. `&&` binds tighter than `||`; there are brackets and `!`.
///
/// A name is a field of the event, or, if it has none of that name, says something
/// of the task that hits it: `pid` (of the process), `tid` (of the thread), `comm`
/// and `cpu`. `args.pid` is surely the event's, `task.pid` surely the task's.
///
/// Nothing is converted silently: a number a field cannot hold is an error.
///
/// ```
/// use tracepoints::{Filter, Kernel, filter::Task};
/// # use tracepoints::{Machine, Record};
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let exit = kernel.tracepoint("raw_syscalls:sys_exit")?;
/// let filter: Filter = "ret < 0 && comm != \"cat\"".parse()?;
/// let filter = filter.bind(exit.format())?;
/// # let mut bytes = [0; 24];
/// # bytes[16..].fill(0xff);
/// # let record = Record::new(exit.format(), &bytes, Machine::NATIVE);
/// # let task = Task { pid: 1, tid: 1, comm: *b"init\0\0\0\0\0\0\0\0\0\0\0\0", cpu: 0 };
/// assert!(filter.matches(&record, &task)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    text: String,
    root: Condition,
}

/// The task that hits an event, as an eBPF program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The process, which the kernel calls `tgid`.
    pub pid: u32,
    /// The thread, which the kernel calls `pid`.
    pub tid: u32,
    /// Its name, NULs after it.
    pub comm: [u8; 16],
    /// The CPU it runs on.
    pub cpu: u32,
}

/// Why a text is no filter, a filter does not fit an event, or a record does not
/// have what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The text is none of the language.
    #[error("bad filter {filter:?}: not understood from column {column}, {rest:?}")]
    Syntax {
        /// The whole text.
        filter: String,
        /// Where it is not understood, in characters from 1.
        column: usize,
        /// What stands there.
        rest: String,
    },
    /// The text is longer than a filter may be.
    #[error("the filter is longer than {limit} bytes")]
    TooLong {
        /// The longest there may be, in bytes.
        limit: usize,
    },
    /// Brackets nest deeper than they may.
    #[error("the filter's brackets nest deeper than {limit}")]
    TooDeep {
        /// How deep they may.
        limit: usize,
    },
    /// The event has no field of this name.
    #[error("{event} has no field {field}; it has {}, and the task has pid, tid, comm and cpu", listed(.fields))]
    NoField {
        /// The event's name, without its category.
        event: String,
        /// The name.
        field: String,
        /// The fields it has.
        fields: Vec<String>,
    },
    /// A field is compared as what it is not.
    #[error("{field} is {is}, and cannot be compared with {with}")]
    Incomparable {
        /// The field.
        field: String,
        /// What it is.
        is: &'static str,
        /// What it is compared with.
        with: &'static str,
    },
    /// A number the field can never be.
    #[error("{field} is {bits} bits, {}, and cannot be {number}", if *.signed { "signed" } else { "unsigned" })]
    OutOfRange {
        /// The field.
        field: String,
        /// How many bits it has.
        bits: u32,
        /// Whether it is signed.
        signed: bool,
        /// The number.
        number: i128,
    },
    /// A string longer than can be compared.
    #[error("{field} can be compared with at most {limit} bytes")]
    LongText {
        /// The field.
        field: String,
        /// The longest string, in bytes.
        limit: usize,
    },
    /// The bytes a pointer points at are not in the record.
    #[error("what {field} points at is not in the record")]
    NotRecorded {
        /// The field.
        field: String,
    },
    /// The record ends too soon.
    #[error(transparent)]
    Record(#[from] RecordError),
}

fn listed(fields: &[String]) -> String {
    match fields {
        [] => "none of its own".to_owned(),
        fields => fields.join(", "),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Test(Test),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    name: Name,
    mask: Option<u64>,
    comparison: Comparison,
    literal: Constant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    scope: Owner,
    word: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Event,
    Task,
    Either,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Constant {
    Number(i128),
    Text(String),
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// [`FilterError::Syntax`], [`FilterError::TooLong`] and
    /// [`FilterError::TooDeep`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self {
            text: text.to_owned(),
            root: parse::filter(text)?,
        })
    }

    /// The filter for one event: its names are the event's fields, and its numbers
    /// such as they can be.
    ///
    /// # Errors
    ///
    /// [`FilterError::NoField`], [`FilterError::Incomparable`],
    /// [`FilterError::OutOfRange`] and [`FilterError::LongText`].
    pub fn bind<'f>(&self, format: &'f Format) -> Result<BoundFilter<'f>, FilterError> {
        Ok(BoundFilter {
            root: bind(&self.root, format)?,
        })
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// A [`Filter`] for one event: see [`Filter::bind`].
#[derive(Clone, Debug)]
pub struct BoundFilter<'f> {
    root: BoundNode<'f>,
}

#[derive(Clone, Debug)]
pub(crate) enum BoundNode<'f> {
    And(Vec<BoundNode<'f>>),
    Or(Vec<BoundNode<'f>>),
    Not(Box<BoundNode<'f>>),
    Integer(IntegerTest<'f>),
    Text(TextTest<'f>),
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject<'f> {
    Field(&'f Field),
    Pid,
    Tid,
    Comm,
    Cpu,
}

#[derive(Clone, Debug)]
pub(crate) struct IntegerTest<'f> {
    pub(crate) subject: Subject<'f>,
    /// Bytes and sign of the value.
    pub(crate) size: u32,
    pub(crate) signed: bool,
    pub(crate) mask: Option<u64>,
    pub(crate) comparison: Comparison,
    /// The number as 64 bits: unsigned if there is a mask, else of the value's
    /// sign.
    pub(crate) number: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct TextTest<'f> {
    pub(crate) subject: Subject<'f>,
    pub(crate) equal: bool,
    pub(crate) text: Vec<u8>,
}

impl BoundFilter<'_> {
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn root(&self) -> &BoundNode<'_> {
        &self.root
    }

    /// Whether the filter depends on the field.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn asks_for(&self, field: &Field) -> bool {
        self.root.asks_for(field)
    }

    /// Whether the condition holds for a record of the event and the task that
    /// hit it.
    ///
    /// # Errors
    ///
    /// [`FilterError::NotRecorded`] if it asks for a string a system call's
    /// argument points at, and [`FilterError::Record`] if the record is too short.
    pub fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        self.root.matches(record, task)
    }
}

fn bind<'f>(node: &Condition, format: &'f Format) -> Result<BoundNode<'f>, FilterError> {
    let all = |nodes: &[Condition]| -> Result<Vec<_>, _> {
        nodes.iter().map(|node| bind(node, format)).collect()
    };
    Ok(match node {
        Condition::And(nodes) => BoundNode::And(all(nodes)?),
        Condition::Or(nodes) => BoundNode::Or(all(nodes)?),
        Condition::Not(node) => BoundNode::Not(Box::new(bind(node, format)?)),
        Condition::Test(test) => bind_test(test, format)?,
    })
}

fn bind_test<'f>(test: &Test, format: &'f Format) -> Result<BoundNode<'f>, FilterError> {
    let subject = subject(&test.name, format)?;
    let field = || test.name.word.clone();
    let kind = subject.kind(format.has_syscall_shape());
    let incomparable = |with| FilterError::Incomparable {
        field: field(),
        is: kind.words(),
        with,
    };
    match (&test.literal, kind) {
        (&Constant::Number(wanted), SubjectKind::Integer { size, signed }) => {
            let number = match test.mask {
                Some(_) => in_range(wanted, 8, false),
                None => in_range(wanted, size, signed),
            };
            let number = number.ok_or_else(|| FilterError::OutOfRange {
                field: field(),
                bits: if test.mask.is_some() { 64 } else { size * 8 },
                signed: signed && test.mask.is_none(),
                number: wanted,
            })?;
            Ok(BoundNode::Integer(IntegerTest {
                subject,
                size,
                signed,
                mask: test.mask,
                comparison: test.comparison,
                number,
            }))
        }
        (Constant::Text(text), SubjectKind::Text { limit }) => {
            let equal = match test.comparison {
                Comparison::Eq => true,
                Comparison::Ne => false,
                _ => return Err(incomparable("anything but by == and !=")),
            };
            if test.mask.is_some() {
                return Err(incomparable("a mask"));
            }
            if text.len() > limit {
                return Err(FilterError::LongText {
                    field: field(),
                    limit,
                });
            }
            Ok(BoundNode::Text(TextTest {
                subject,
                equal,
                text: text.clone().into_bytes(),
            }))
        }
        (Constant::Number(_), _) => Err(incomparable("a number")),
        (Constant::Text(_), _) => Err(incomparable("a string")),
    }
}

fn subject<'f>(name: &Name, format: &'f Format) -> Result<Subject<'f>, FilterError> {
    let mut fields = format.fields().iter();
    let field = fields.find(|field| field.name() == name.word);
    match (name.scope, field) {
        (Owner::Event | Owner::Either, Some(field)) => return Ok(Subject::Field(field)),
        (Owner::Event, None) => {}
        (Owner::Task, _) | (Owner::Either, None) => match name.word.as_str() {
            "pid" => return Ok(Subject::Pid),
            "tid" => return Ok(Subject::Tid),
            "comm" => return Ok(Subject::Comm),
            "cpu" => return Ok(Subject::Cpu),
            _ => {}
        },
    }
    let fields = format.fields().iter();
    Err(FilterError::NoField {
        event: format.name().to_owned(),
        field: name.word.clone(),
        fields: fields.map(|field| field.name().to_owned()).collect(),
    })
}

#[derive(Clone, Copy)]
enum SubjectKind {
    Integer { size: u32, signed: bool },
    Text { limit: usize },
    Neither,
}

impl SubjectKind {
    fn words(self) -> &'static str {
        match self {
            Self::Integer { .. } => "an integer",
            Self::Text { .. } => "a string",
            Self::Neither => "neither an integer nor a string",
        }
    }
}

impl Subject<'_> {
    fn kind(self, in_syscall: bool) -> SubjectKind {
        let integer = |size, signed| SubjectKind::Integer { size, signed };
        let field = match self {
            Self::Pid | Self::Tid | Self::Cpu => return integer(4, false),
            Self::Comm => return SubjectKind::Text { limit: COMM },
            Self::Field(field) => field,
        };
        match field.kind() {
            _ if field.is_text() => SubjectKind::Text { limit: TEXT },
            FieldKind::Pointer if in_syscall && field.points_to_text() => {
                SubjectKind::Text { limit: TEXT }
            }
            FieldKind::Scalar | FieldKind::Pointer => {
                let word = (field.size(), field.signed() == Some(true));
                let (size, signed) = field.argument().unwrap_or(word);
                match size {
                    1 | 2 | 4 | 8 => integer(size, signed),
                    // A file may say so of a pointer.
                    _ => SubjectKind::Neither,
                }
            }
            _ => SubjectKind::Neither,
        }
    }
}

/// The number as 64 bits, if a value of this size and sign can be it.
fn in_range(number: i128, size: u32, signed: bool) -> Option<u64> {
    let bits = size * 8;
    let (low, high) = match signed {
        true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
        false => (0, (1_i128 << bits) - 1),
    };
    (low..=high).contains(&number).then_some(number as u64)
}

impl BoundNode<'_> {
    #[cfg(all(feature = "probe", target_os = "linux"))]
    fn asks_for(&self, field: &Field) -> bool {
        match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().any(|node| node.asks_for(field)),
            Self::Not(node) => node.asks_for(field),
            Self::Integer(IntegerTest { subject, .. }) | Self::Text(TextTest { subject, .. }) => {
                *subject == Subject::Field(field)
            }
        }
    }

    fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        Ok(match self {
            Self::And(nodes) => {
                for node in nodes {
                    if !node.matches(record, task)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Or(nodes) => {
                for node in nodes {
                    if node.matches(record, task)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Not(node) => !node.matches(record, task)?,
            Self::Integer(test) => test.matches(record, task)?,
            Self::Text(test) => test.matches(record, task)?,
        })
    }
}

impl IntegerTest<'_> {
    /// Whether greater and less are those of signed numbers: of bits they are not.
    pub(crate) fn is_order_signed(&self) -> bool {
        self.signed && self.mask.is_none()
    }

    fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        let value = match self.subject {
            Subject::Pid => u64::from(task.pid),
            Subject::Tid => u64::from(task.tid),
            Subject::Cpu => u64::from(task.cpu),
            Subject::Comm => 0,
            Subject::Field(field) => {
                let word = record.machine().unsigned(record.raw(field)?);
                let unused = 64 - self.size * 8;
                // The low bits of a word that is larger than its argument.
                match self.signed {
                    true => ((word << unused) as i64 >> unused) as u64,
                    false => word << unused >> unused,
                }
            }
        };
        let value = value & self.mask.unwrap_or(u64::MAX);
        let order = match self.is_order_signed() {
            true => (value as i64).cmp(&(self.number as i64)),
            false => value.cmp(&self.number),
        };
        Ok(match self.comparison {
            Comparison::Eq => order.is_eq(),
            Comparison::Ne => order.is_ne(),
            Comparison::Lt => order.is_lt(),
            Comparison::Le => order.is_le(),
            Comparison::Gt => order.is_gt(),
            Comparison::Ge => order.is_ge(),
        })
    }
}

impl TextTest<'_> {
    fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        let text = match self.subject {
            Subject::Field(field) if field.kind() == FieldKind::Pointer => {
                return Err(FilterError::NotRecorded {
                    field: field.name().to_owned(),
                });
            }
            Subject::Field(field) => crate::machine::until_nul(record.data(field)?),
            _ => crate::machine::until_nul(&task.comm),
        };
        Ok((text == self.text) == self.equal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ByteOrder, Machine};

    const FORMAT: &str = "\
name: sys_enter_x
ID: 1
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:int __syscall_nr;\toffset:4;\tsize:4;\tsigned:1;
\tfield:int ret;\toffset:8;\tsize:4;\tsigned:1;
\tfield:u8 flags;\toffset:12;\tsize:1;\tsigned:0;
\tfield:char comm[16];\toffset:16;\tsize:16;\tsigned:0;
\tfield:int dfd;\toffset:32;\tsize:8;\tsigned:0;
\tfield:u64 blob[2];\toffset:40;\tsize:16;\tsigned:0;
\tfield:s8 pid;\toffset:56;\tsize:1;\tsigned:1;

print fmt: \"\"
";

    fn matches(filter: &str) -> Result<bool, FilterError> {
        let format = Format::parse(FORMAT).expect("a format");
        let mut bytes = [0; 64];
        bytes[8..12].copy_from_slice(&(-2_i32).to_le_bytes());
        bytes[12] = 0x81;
        bytes[16..20].copy_from_slice(b"cat\0");
        bytes[32..40].copy_from_slice(&0xdead_beef_ffff_ff9c_u64.to_le_bytes());
        bytes[56] = 0x80;
        let record = Record::new(&format, &bytes, Machine::new(ByteOrder::Little, true));
        let mut comm = [0; 16];
        comm[..2].copy_from_slice(b"rm");
        let task = Task {
            pid: 10,
            tid: 11,
            comm,
            cpu: 3,
        };
        Filter::parse(filter)?
            .bind(&format)?
            .matches(&record, &task)
    }

    #[test]
    fn conditions() {
        for (filter, expected) in [
            ("ret < 0", true),
            ("ret == -2 && flags & 0x80", true),
            ("flags & 0x7e", false),
            ("flags&1==1", true),
            ("flags & 0x81 == 0x81 || nothing_bad == 1", true),
            ("!(ret < 0)", false),
            ("!flags", false),
            ("ret > 0 || cpu == 3 && tid == 11", true),
            ("(ret > 0 || cpu == 3) && tid == 12", false),
            ("comm == \"cat\"", true),
            ("args.comm != \"cat\"", false),
            ("task.comm == \"rm\"", true),
            ("dfd == -100", true),
            ("dfd & 0xffffffff == 0xffffff9c", true),
            ("ret & 0x8000000000000000", true),
            ("flags == 0201", true),
            ("pid == -128 && task.pid == 10", true),
        ] {
            let filter = filter.replace("nothing_bad", "flags");
            assert_eq!(matches(&filter), Ok(expected), "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter() {
        let errors: Vec<String> = [
            "",
            "ret <",
            "ret < 0 &&",
            "ret << 1",
            "ret = 0",
            "(ret < 0",
            "ret < 0)",
            "ret == 1 ret == 2",
            "ret == 2147483648",
            "flags == -1",
            "flags & -1",
            "flags == 256",
            "flags & 1 == -1",
            "ret == 0x",
            "ret == 99999999999999999999",
            "nothing == 1",
            "args.cpu == 1",
            "task.ret == 1",
            "foo.bar == 1",
            "comm == 1",
            "comm < \"a\"",
            "comm & 1 == \"a\"",
            "comm",
            "ret == \"a\"",
            "blob == 1",
            "task.comm == \"0123456789abcdef\"",
            "comm == \"open",
        ]
        .iter()
        .map(|filter| match matches(filter) {
            Ok(_) => format!("{filter:?} is taken"),
            Err(error) => format!("{filter:?}: {error}"),
        })
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    /// Format files may be anyone's.
    #[test]
    fn sizes_that_no_integer_has() {
        for size in [0, 3, 9, 16, u32::MAX] {
            let text = FORMAT.replace(
                "field:int ret;\toffset:8;\tsize:4;",
                &format!("field:void *ret;\toffset:8;\tsize:{size};"),
            );
            let format = Format::parse(&text).expect("a format");
            for filter in ["ret == 1", "ret & 1", "ret < -1"] {
                let error = Filter::parse(filter).expect(filter).bind(&format);
                assert!(
                    matches!(error, Err(FilterError::Incomparable { .. })),
                    "{size}"
                );
            }
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}ret < 0{}", "(".repeat(2000), ")".repeat(2000));
        assert_eq!(matches(&deep), Err(FilterError::TooDeep { limit: 64 }));
        let deep = format!("{}ret < 0", "!".repeat(3000));
        assert_eq!(matches(&deep), Err(FilterError::TooDeep { limit: 64 }));
        let long = format!("ret < 0{}", " || ret < 0".repeat(1000));
        assert_eq!(matches(&long), Err(FilterError::TooLong { limit: 4096 }));
        let wide = format!("ret > 0{}", " || ret > 0".repeat(300));
        assert_eq!(matches(&wide), Ok(false));
    }
}
