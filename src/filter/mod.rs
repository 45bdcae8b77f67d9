//! Conditions on an event's fields and on the task it happens in. The kernel evaluates
//! them in a probe's program, and userspace on a record.

mod bind;
mod bound;
mod error;
mod matches;
mod parse;

pub use bound::BoundFilter;
pub(crate) use bound::{BoundNode, FieldsTest, IntegerSubject, IntegerTest, Subject, TextTest};
pub use error::FilterError;

use std::fmt;
use std::str::FromStr;

use crate::format::Format;
use crate::format::print::{FieldPrint, PrintFmt};
use bind::Binder;

/// The longest string a field can be compared with, in bytes.
const TEXT: usize = 63;

/// The longest name a task can have, in bytes: one less than `TASK_COMM_LEN`.
const COMM: usize = 15;

/// A condition: `ret < 0 && comm == "rm"`.
///
/// An integer field is compared by `==`, `!=`, `<`, `<=`, `>` and `>=` with a number
/// (decimal, `0x…`, or octal with a leading `0`), with the name of a number (`state ==
/// TASK_DEAD`, `ret == -ENOENT`) or with another integer field. Bits are selected by a
/// mask: `flags & 0x200`, `flags & (O_CREAT | O_EXCL)`, alone or compared. Strings of at
/// most 63 bytes are compared by `==` and `!=`, and prefixes by `~`: `filename ~
/// "/etc/*"`. `ret in (-1, 0)` holds if any of the values is equal. `&&` binds tighter
/// than `||`; there are brackets and `!`.
///
/// A name is a field of the event or, if the event has no such field, a property of the
/// task that hits it: `pid` (of the process), `tid` (of the thread), `comm`, `cpu`,
/// `uid`, `gid` and `cgroup`, the id of its cgroup, which is the inode of its directory
/// (version 2). `args.pid` is always the event's, `task.pid` always the task's. `args[0]`
/// is the first element of an array or the first argument of a system call. Of a raw
/// tracepoint, a name is a path through its arguments: `prev->comm == "rm"`.
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
    /// The name of the thread, padded with NULs.
    pub comm: [u8; 16],
    /// The CPU that the thread runs on.
    pub cpu: u32,
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
    /// The bits, combined.
    mask: Option<Vec<Bits>>,
    comparison: Comparison,
    /// Whether the string is a prefix.
    is_prefix: bool,
    literal: Constant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bits {
    Number(u64),
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    scope: Owner,
    word: String,
    /// The index of an element, from 0.
    index: Option<u32>,
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
    /// A field, or the name of a value.
    Name(Name),
    /// The name of a value, negated.
    NegativeName(String),
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// [`FilterError::Syntax`], [`FilterError::SingleEqual`], [`FilterError::TooLong`] and
    /// [`FilterError::TooDeep`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self {
            text: text.to_owned(),
            root: parse::filter(text)?,
        })
    }

    /// Returns a filter that holds if both do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            text: format!("({}) && ({})", self.text, other.text),
            root: Condition::And(vec![self.root, other.root]),
        }
    }

    /// Binds the filter to one event: resolves names to the event's fields, and checks
    /// that fields can have the numbers.
    ///
    /// Names of values are those in the event's print fmt. A probe's program knows more:
    /// the kernel's enumerators, errors, and flags of system calls such as those of
    /// open(2).
    ///
    /// # Errors
    ///
    /// [`FilterError::NoField`], [`FilterError::NoConstant`],
    /// [`FilterError::NoElement`], [`FilterError::Incomparable`],
    /// [`FilterError::OutOfRange`] and [`FilterError::LongText`].
    pub fn bind<'f>(&self, format: &'f Format) -> Result<BoundFilter<'f>, FilterError> {
        let print = PrintFmt::parse(format.print_fmt());
        let names_of = |field: &str| match &print {
            Ok(print) => print.field(field),
            Err(_) => FieldPrint::default(),
        };
        self.bind_with(format, &names_of, &|_, _| None)
    }

    /// Returns the words that may be names of the event's fields; some may be names of
    /// values, or of properties of the task.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.root.names(&mut names);
        names
    }

    /// Splits what must hold into the conditions that a function wants and the others. Only
    /// what is combined by `&&` can be split; the function gets the words of a condition that may
    /// be names of fields.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn split(self, is_wanted: impl Fn(&[&str]) -> bool) -> (Option<Self>, Option<Self>) {
        let mut all = Vec::new();
        self.root.into_conjuncts(&mut all);
        let (wanted, others) = all.into_iter().partition::<Vec<_>, _>(|condition| {
            let mut names = Vec::new();
            condition.names(&mut names);
            is_wanted(&names)
        });
        let of = |conditions: Vec<Condition>| {
            (!conditions.is_empty()).then(|| Self {
                root: Condition::And(conditions),
                text: self.text.clone(),
            })
        };
        (of(wanted), of(others))
    }

    /// Like [`bind`](Self::bind), with further names of values that are not in a field's
    /// print fmt.
    pub(crate) fn bind_with<'f>(
        &self,
        format: &'f Format,
        names_of: &dyn Fn(&str) -> FieldPrint,
        constant: &dyn Fn(&str, &str) -> Option<i64>,
    ) -> Result<BoundFilter<'f>, FilterError> {
        let binder = Binder {
            format,
            names_of,
            constant,
        };
        Ok(BoundFilter {
            root: binder.bind(&self.root)?,
        })
    }
}

impl Condition {
    /// Collects the conditions that `&&` combines.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    fn into_conjuncts(self, conjuncts: &mut Vec<Self>) {
        match self {
            Self::And(all) => all
                .into_iter()
                .for_each(|one| one.into_conjuncts(conjuncts)),
            one => conjuncts.push(one),
        }
    }

    /// Collects the words that may be names of an event's fields.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    fn names<'c>(&'c self, names: &mut Vec<&'c str>) {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().for_each(|one| one.names(names)),
            Self::Not(one) => one.names(names),
            Self::Test(test) => {
                let other = match &test.literal {
                    Constant::Name(name) => Some(name),
                    _ => None,
                };
                let both = std::iter::once(&test.name).chain(other);
                let of_event = both.filter(|name| name.scope != Owner::Task);
                names.extend(of_event.map(|name| name.word.as_str()));
            }
        }
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

/// Writes the name as in a filter: `ret`, `task.pid`, `args[0]`.
impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(out, "{}[{index}]", self.word),
            None => out.write_str(&self.word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ByteOrder, Machine};
    use crate::record::Record;

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

print fmt: \"%s %s\", __print_symbolic(REC->flags, { 0x81, \"BAD\" }), __print_flags(REC->flags, \"|\", { 1, \"READ\" })
";

    fn matches(filter: &str) -> Result<bool, FilterError> {
        let format = Format::parse(FORMAT).expect("a format");
        let mut bytes = [0; 64];
        bytes[8..12].copy_from_slice(&(-2_i32).to_le_bytes());
        bytes[12] = 0x81;
        bytes[16..20].copy_from_slice(b"cat\0");
        bytes[40..42].copy_from_slice(&[1, 2]);
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
            ("ret in (0, -2)", true),
            ("ret in(1,2) || comm in (\"cat\", \"dog\")", true),
            ("comm ~ \"ca*\" && !(comm ~ \"cat?*\")", true),
            ("comm ~ \"*\" && comm ~ \"cat\" && !(comm ~ \"c\")", true),
            ("ret < flags", true),
            ("flags > ret && flags != tid && args.pid == args.pid", true),
            ("ret == pid", false),
            ("blob[0] == 0x201 && blob[1] == 0", true),
            ("blob[0] & 1", true),
            ("flags == BAD", true),
            ("flags & (READ | 0x80) == 0x81", true),
            ("flags & READ", true),
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
            "blob[2] == 1",
            "ret[0] == 1",
            "args[9] == 1",
            "ret == ENOENT",
            "flags == OTHER",
            "flags & OTHER",
            "flags & (READ |)",
            "ret in ()",
            "ret in (1",
            "comm ~ \"*a\"",
            "comm ~ 1",
            "ret == blob",
            "ret == blob[0]",
            "flags & 1 == ret",
            "uid == 0",
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

    /// Format files are untrusted input.
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
