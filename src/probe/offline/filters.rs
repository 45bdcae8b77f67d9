//! Programs with filters: they let the same records pass as filters in userspace.

use std::fs;

use proptest::prelude::*;
use proptest::sample::Index;

use super::{
    COUNTS, KERNELS, accesses, context_of, fixture, in_world, is_syscall, record_bytes, run,
    sources, task, written,
};
use crate::filter::Filter;
use crate::format::{Field, FieldKind, Format};
use crate::machine::{Machine, sign_extended, zero_extended};
use crate::probe::constants;
use crate::probe::program::{self, Action, Adding, Tasks};
use crate::record::{Record, Value};
use crate::{Kernel, Tracepoint};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A filter says the same in the kernel and in userspace.
    #[test]
    fn a_filter_is_the_same_in_the_kernel_and_in_userspace(
        kernel in 0..=KERNELS.len(),
        event in any::<Index>(),
        bytes in record_bytes(),
        lengths in prop::collection::vec(0..70_u8, 1..4),
        tree in tree(),
    ) {
        let made;
        let root = match KERNELS.get(kernel) {
            Some(name) => fixture(name),
            None => {
                made = made_kernel();
                made.path().to_owned()
            }
        };
        let kernel = Kernel::at(root).expect("a kernel");
        let events = kernel.events().expect("events");
        let tracepoint = kernel.tracepoint(event.get(events.names())).expect("an event");
        let format = tracepoint.format();
        let bytes = written(format, &bytes, &lengths);
        let record = Record::new(format, &bytes, Machine::NATIVE);
        let text = tree.text(format, &record);
        let filter = Filter::parse(&text).expect(&text);
        let bound = filter.bind(format).expect(&text);
        let expected = bound.matches(&record, &task()).expect(&text);
        let context = tracepoint.context().expect("a context");
        let accesses = accesses(tracepoint.format(), &context);
        let program = program::on_event(
            0,
            Tasks::All,
            Some((bound.root(), &sources(&accesses))),
            &Action::Count { counts: COUNTS },
            Adding::Plain,
        )
        .expect("a program");
        in_world(|world| {
            world.counts = vec![0];
            world.task = Some(task());
        });
        let mut bytes = context_of(&record, &accesses);
        run(&program, &mut bytes);
        let passed = in_world(|world| world.counts[0]);
        prop_assert_eq!(passed, u64::from(expected), "{} on {}\n{}", text, tracepoint.name(), program);
    }
}

/// A kernel with events of what the captured ones have not: fields that are not
/// aligned, strings longer than a filter compares, `__rel_loc`.
fn made_kernel() -> tempfile::TempDir {
    const NUMBERS: &[(&str, u32, u32, bool)] = &[
        ("u8 a", 8, 1, false),
        ("s8 b", 9, 1, true),
        ("u16 c", 11, 2, false),
        ("s16 d", 13, 2, true),
        ("u32 e", 17, 4, false),
        ("int f", 21, 4, true),
        ("u64 g", 25, 8, false),
        ("s64 h", 33, 8, true),
        ("u64 i", 48, 8, false),
        ("s64 j", 56, 8, true),
        ("const void * k", 65, 8, false),
        ("bool l", 73, 1, false),
    ];
    const TEXTS: &[(&str, u32, u32, bool)] = &[
        ("char a[5]", 9, 5, true),
        ("char b[80]", 16, 80, true),
        ("__rel_loc char[] c", 96, 4, true),
        ("__data_loc char[] d", 100, 4, true),
        ("char e[16]", 105, 16, false),
        ("__rel_loc char f[]", 124, 4, true),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    let tracing = dir.path().join("tracing");
    for (event, fields) in [("numbers", NUMBERS), ("texts", TEXTS)] {
        let lines = fields.iter().map(|(declaration, offset, size, signed)| {
            let signed = u8::from(*signed);
            format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n")
        });
        let format = format!(
            "name: {event}\nID: 7\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            {}\nprint fmt: \"\"\n",
            lines.collect::<String>()
        );
        let path = tracing.join("events/made").join(event);
        fs::create_dir_all(&path).expect("a directory");
        fs::write(path.join("format"), format).expect("a file");
    }
    let listed = "made:numbers\nmade:texts\n";
    fs::write(tracing.join("available_events"), listed).expect("a file");
    dir
}

/// A filter yet without names and numbers.
#[derive(Clone, Debug)]
enum Tree {
    Test {
        field: Index,
        comparison: Index,
        /// Take the value at hand, so that equality is seen too.
        own: bool,
        /// And of a string, one byte more or less.
        twist: Index,
        number: i64,
        mask: Option<u64>,
    },
    /// Something of the task, compared with what it is or with a number.
    Task(Index, Index, u32),
    Not(Box<Tree>),
    Join(&'static str, Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let test = (
        any::<Index>(),
        any::<Index>(),
        (any::<bool>(), any::<Index>()),
        prop_oneof![any::<i64>(), -3..300_i64],
        prop_oneof![
            Just(None),
            any::<u64>().prop_map(Some),
            (0..256_u64).prop_map(Some)
        ],
    );
    let test = test.prop_map(
        |(field, comparison, (own, twist), number, mask)| Tree::Test {
            field,
            comparison,
            own,
            twist,
            number,
            mask,
        },
    );
    let of_task = (any::<Index>(), any::<Index>(), 0..20_u32);
    let of_task = of_task.prop_map(|(subject, sign, number)| Tree::Task(subject, sign, number));
    let test = prop_oneof![6 => test, 1 => of_task];
    test.prop_recursive(3, 12, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            inner.prop_map(|tree| Tree::Not(Box::new(tree))),
            some.clone().prop_map(|trees| Tree::Join(" && ", trees)),
            some.prop_map(|trees| Tree::Join(" || ", trees)),
        ]
    })
}

impl Tree {
    fn text(&self, format: &Format, record: &Record<'_>) -> String {
        match self {
            Self::Not(tree) => format!("!({})", tree.text(format, record)),
            Self::Join(sign, trees) => {
                let trees: Vec<String> = trees
                    .iter()
                    .map(|tree| format!("({})", tree.text(format, record)))
                    .collect();
                trees.join(sign)
            }
            Self::Task(subject, sign, number) => {
                let sign = ["==", "!=", "<", "<=", ">", ">="][sign.index(6)];
                match subject.index(4) {
                    0 => format!("task.pid {sign} {number}"),
                    1 => format!("task.tid {sign} {number:#x}"),
                    2 => format!("task.cpu {sign} 0{number:o}"),
                    _ => {
                        let sign = if *number % 2 == 0 { "==" } else { "!=" };
                        let comm = ["offline", "offlin", "offline!", ""][*number as usize % 4];
                        format!("task.comm {sign} \"{comm}\"")
                    }
                }
            }
            Self::Test {
                field,
                comparison,
                own,
                twist,
                number,
                mask,
            } => {
                let fields: Vec<&Field> = format
                    .fields()
                    .iter()
                    .filter(|field| is_comparable(field, format))
                    .collect();
                if fields.is_empty() {
                    return "tid == 11".to_owned();
                }
                let field = field.get(&fields);
                let name = format!("args.{}", field.name());
                let value = record.value(field).expect("it was written so");
                if let Value::Text(text) = value {
                    let sign = ["==", "!="][comparison.index(2)];
                    let mut own_text = String::from_utf8_lossy(text).into_owned();
                    let is_own = *own && own_text.as_bytes() == text;
                    match twist.index(4) {
                        0 => drop(own_text.pop()),
                        1 => own_text.push('c'),
                        _ => {}
                    }
                    let fits = own_text.len() < 64 && !own_text.contains(['"', '\\', '\0']);
                    let text = match is_own && fits {
                        true => own_text,
                        false => format!("{number}"),
                    };
                    return format!("{name} {sign} \"{text}\"");
                }
                let sign = ["==", "!=", "<", "<=", ">", ">="][comparison.index(6)];
                let word = (field.size(), field.signed() == Some(true));
                // An `int` in a machine word is its low half.
                let (size, signed) = field.argument().unwrap_or(word);
                let value = value.integer().expect("an integer");
                let value = match signed {
                    true => sign_extended(value as u64, size),
                    false => zero_extended(value as u64, size) as i64,
                };
                if let Some(mask) = mask {
                    let number = if *own {
                        value as u64 & mask
                    } else {
                        *number as u64
                    };
                    return format!("{name} & {mask} {sign} {number}");
                }
                let number = if *own { value } else { *number };
                match signed {
                    true => format!("{name} {sign} {}", sign_extended(number as u64, size)),
                    false => format!("{name} {sign} {}", zero_extended(number as u64, size)),
                }
            }
        }
    }
}

/// Whether a filter can compare it: numbers, addresses, and strings in the record.
fn is_comparable(field: &Field, format: &Format) -> bool {
    match field.kind() {
        FieldKind::Pointer => !(is_syscall(format) && field.points_to_text()),
        FieldKind::Scalar => true,
        // The strings of a system call are the record's alone.
        _ => field.is_text() && !is_syscall(format),
    }
}

/// Whether a program with this filter lets this record pass; it is the same in userspace.
fn passes(tracepoint: &Tracepoint, bytes: &[u8], text: &str) -> bool {
    let format = tracepoint.format();
    let record = Record::new(format, bytes, Machine::NATIVE);
    let filter = Filter::parse(text).expect(text);
    let names_of = |field: &str| tracepoint.field_print(field).expect("a print fmt");
    let constant = |field: &str, name: &str| constants::value(tracepoint, field, name);
    let bound = filter.bind_with(format, &names_of, &constant).expect(text);
    let context = tracepoint.context().expect("a context");
    let accesses = accesses(format, &context);
    let sources = sources(&accesses);
    let filter = Some((bound.root(), &*sources));
    let action = Action::Count { counts: COUNTS };
    let program =
        program::on_event(0, Tasks::All, filter, &action, Adding::Plain).expect("a program");
    in_world(|world| {
        world.counts = vec![0];
        world.task = Some(task());
    });
    run(&program, &mut context_of(&record, &accesses));
    let passed = in_world(|world| world.counts[0]) == 1;
    assert_eq!(
        bound.matches(&record, &task()),
        Ok(passed),
        "{text}\n{program}"
    );
    passed
}

#[test]
fn names_elements_and_fields_in_the_kernel() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let event = |name: &str| kernel.tracepoint(name).expect("an event");
    let number = |bytes: &mut Vec<u8>, at: usize, value: i64| {
        bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    };
    // long id, unsigned long args[6].
    let mut enter = vec![0; 64];
    number(&mut enter, 8, 3);
    number(&mut enter, 16, 0o101);
    number(&mut enter, 24, -1);
    for (text, expected) in [
        ("args[0] & O_CREAT", true),
        ("args[0] & (O_CREAT | O_EXCL) == 64", true),
        ("args[0] & O_EXCL", false),
        ("args[1] == 0xffffffffffffffff && args[5] == 0", true),
        ("id in (1, 2, 3)", true),
        ("id in (1, 2)", false),
    ] {
        assert_eq!(
            passes(&event("raw_syscalls:sys_enter"), &enter, text),
            expected,
            "{text}"
        );
    }
    // int __syscall_nr, and words: dfd, pathname, flag.
    let mut unlink = vec![0; 48];
    number(&mut unlink, 16, -100);
    number(&mut unlink, 32, 0x200);
    for (text, expected) in [
        ("dfd == AT_FDCWD && flag == AT_REMOVEDIR", true),
        ("args[0] == -100 && args[2] & AT_REMOVEDIR", true),
        ("args[2] > args[0] && flag != dfd", true),
    ] {
        assert_eq!(
            passes(&event("syscalls:sys_enter_unlinkat"), &unlink, text),
            expected,
            "{text}"
        );
    }
    let mut exit = vec![0; 24];
    number(&mut exit, 16, -2);
    let exits = event("syscalls:sys_exit_unlinkat");
    assert!(passes(&exits, &exit, "ret == -ENOENT"));
    assert!(!passes(&exits, &exit, "ret in (-EPERM, -EACCES)"));
    // char prev_comm[16], pid_t prev_pid, int prev_prio, long prev_state, char next_comm[16].
    let mut switch = vec![0; 64];
    switch[8..13].copy_from_slice(b"sleep");
    switch[24..28].copy_from_slice(&7_i32.to_ne_bytes());
    switch[28..32].copy_from_slice(&120_i32.to_ne_bytes());
    number(&mut switch, 32, 2);
    let switches = event("sched:sched_switch");
    for (text, expected) in [
        ("prev_comm ~ \"sl*\"", true),
        ("prev_comm ~ \"sleep*\" && prev_comm ~ \"sleep\"", true),
        ("prev_comm ~ \"sleeps*\" || prev_comm ~ \"slee\"", false),
        ("!(prev_comm ~ \"s*\")", false),
        ("prev_pid < prev_prio", true),
        ("prev_state > prev_pid", false),
    ] {
        assert_eq!(passes(&switches, &switch, text), expected, "{text}");
    }
    // __data_loc char[] filename.
    let mut exec = vec![0; 40];
    exec[8..12].copy_from_slice(&(9 << 16 | 20_u32).to_ne_bytes());
    exec[20..29].copy_from_slice(b"/bin/cat\0");
    let execs = event("sched:sched_process_exec");
    assert!(passes(&execs, &exec, "filename ~ \"/bin/*\""));
    assert!(passes(&execs, &exec, "filename ~ \"/bin/cat*\""));
    assert!(!passes(
        &execs,
        &exec,
        "filename ~ \"/bin/cat/*\" || filename ~ \"/sbin/*\""
    ));
}
