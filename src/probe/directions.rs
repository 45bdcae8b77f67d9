//! Whether system calls read or write what their arguments point at.
//!
//! Format files say it by `const` alone. The rest is in these tables, which rest on the calls'
//! code in Linux 6.18; names of arguments are those of `SYSCALL_DEFINE`. An argument that they
//! lack may be read, written or both, and is asked for by moment.

use serde::{Deserialize, Serialize};

use crate::format::Field;

/// When what a pointer points at is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Moment {
    /// When the call begins; again when it returns, if it could not be read before.
    Entry,
    /// When the call returns, if it has written it.
    Exit(Written),
}

/// Which calls have written what a pointer points at, by their result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Written {
    /// Those that did not fail.
    OnSuccess,
    /// Those that returned more than 0.
    OnPositive,
    /// Those that a signal interrupts: `-ERESTART_RESTARTBLOCK`, of which programs see `EINTR`.
    OnRestart,
    /// It is not asked: the user wants to see what is there.
    Unasked,
}

/// Arguments without `const` that calls only read.
#[rustfmt::skip]
const READ: &[(&str, &str)] = &[
    ("bind", "umyaddr"), ("cachestat", "cstat_range"), ("clone3", "uargs"),
    ("connect", "uservaddr"), ("epoll_ctl", "event"), ("file_setattr", "ufattr"),
    ("futex_wait", "timeout"), ("futex_waitv", "timeout"), ("futex_waitv", "waiters"),
    ("futimesat", "utimes"),
    ("io_getevents", "timeout"), ("io_pgetevents", "timeout"), ("mount_setattr", "uattr"),
    ("mq_open", "u_attr"), ("nanosleep", "rqtp"), ("open_tree_attr", "uattr"),
    ("openat2", "how"), ("pidfd_send_signal", "info"), ("rt_sigprocmask", "nset"),
    ("rt_sigqueueinfo", "uinfo"), ("rt_sigsuspend", "unewset"), ("rt_tgsigqueueinfo", "uinfo"),
    ("sched_setparam", "param"), ("sched_setscheduler", "param"), ("sendmsg", "msg"),
    ("sendto", "addr"), ("setitimer", "value"), ("setrlimit", "rlim"),
    ("settimeofday", "tv"), ("settimeofday", "tz"), ("signalfd", "user_mask"),
    ("signalfd4", "user_mask"), ("timer_create", "timer_event_spec"), ("utime", "times"),
    ("utimensat", "utimes"), ("utimes", "utimes"),
];

/// Arguments that calls only write.
#[rustfmt::skip]
const WRITTEN: &[(&str, &str, Written)] = {
    use Written::*;
    &[
        ("accept", "upeer_sockaddr", OnSuccess), ("accept4", "upeer_sockaddr", OnSuccess),
        ("cachestat", "cstat", OnSuccess), ("clock_getres", "tp", OnSuccess),
        ("clock_gettime", "tp", OnSuccess), ("clock_nanosleep", "rmtp", OnRestart),
        ("epoll_pwait", "events", OnPositive), ("epoll_pwait2", "events", OnPositive),
        ("epoll_wait", "events", OnPositive), ("file_getattr", "ufattr", OnSuccess),
        ("fstatfs", "buf", OnSuccess), ("getitimer", "value", OnSuccess),
        ("getpeername", "usockaddr", OnSuccess), ("getrlimit", "rlim", OnSuccess),
        ("getrusage", "ru", OnSuccess), ("getsockname", "usockaddr", OnSuccess),
        ("gettimeofday", "tv", OnSuccess), ("gettimeofday", "tz", OnSuccess),
        ("io_getevents", "events", OnPositive), ("io_pgetevents", "events", OnPositive),
        ("mq_getsetattr", "u_omqstat", OnSuccess), ("nanosleep", "rmtp", OnRestart),
        ("newfstat", "statbuf", OnSuccess), ("newfstatat", "statbuf", OnSuccess),
        ("newlstat", "statbuf", OnSuccess), ("newstat", "statbuf", OnSuccess),
        ("newuname", "name", OnSuccess), ("prlimit64", "old_rlim", OnSuccess),
        ("recvfrom", "addr", OnSuccess), ("rt_sigaction", "oact", OnSuccess),
        ("rt_sigpending", "uset", OnSuccess), ("rt_sigprocmask", "oset", OnSuccess),
        ("rt_sigtimedwait", "uinfo", OnPositive), ("sched_getparam", "param", OnSuccess),
        ("sched_rr_get_interval", "interval", OnSuccess), ("setitimer", "ovalue", OnSuccess),
        ("sigaltstack", "uoss", OnSuccess), ("statfs", "buf", OnSuccess),
        ("statx", "buffer", OnSuccess), ("sysinfo", "info", OnSuccess),
        ("timer_gettime", "setting", OnSuccess), ("timer_settime", "old_setting", OnSuccess),
        ("timerfd_gettime", "otmr", OnSuccess), ("timerfd_settime", "otmr", OnSuccess),
        ("times", "tbuf", OnSuccess), ("ustat", "ubuf", OnSuccess),
        ("wait4", "ru", OnPositive), ("waitid", "infop", OnSuccess),
    ]
};

/// Arrays of which the next argument says how many elements they have, and the most that the call
/// takes: it answers `EINVAL` to more (`UIO_MAXIOV` and `FUTEX_WAITV_MAX`; descriptors that a
/// process may have, fewer than 2²⁸).
#[rustfmt::skip]
const COUNTED: &[(&str, &str, u32)] = &[
    ("futex_waitv", "waiters", 128), ("poll", "ufds", 1 << 28), ("ppoll", "ufds", 1 << 28),
    ("preadv", "vec", 1024), ("preadv2", "vec", 1024), ("process_madvise", "vec", 1024),
    ("process_vm_readv", "lvec", 1024), ("process_vm_readv", "rvec", 1024),
    ("process_vm_writev", "lvec", 1024), ("process_vm_writev", "rvec", 1024),
    ("pwritev", "vec", 1024), ("pwritev2", "vec", 1024), ("readv", "vec", 1024),
    ("vmsplice", "uiov", 1024), ("writev", "vec", 1024),
];

/// Arrays that calls write, and of which they return how many elements they have written.
#[rustfmt::skip]
const COUNTED_BY_RESULT: &[(&str, &str)] = &[
    ("epoll_pwait", "events"), ("epoll_pwait2", "events"), ("epoll_wait", "events"),
    ("io_getevents", "events"), ("io_pgetevents", "events"),
];

/// Arguments whose own first member says how long they are.
const SIZED_INSIDE: &[(&str, &str)] = &[
    ("listmount", "req"),
    ("lsm_get_self_attr", "ctx"),
    ("lsm_set_self_attr", "ctx"),
    ("perf_event_open", "attr_uptr"),
    ("sched_setattr", "uattr"),
    ("statmount", "buf"),
    ("statmount", "req"),
];

/// Returns when a call's argument is read; `None` where the call does both, or it is not known.
pub(super) fn moment_of(call: &str, field: &Field) -> Option<Moment> {
    let name = field.name();
    let mut written = WRITTEN.iter();
    if let Some((.., when)) = written.find(|known| (known.0, known.1) == (call, name)) {
        return Some(Moment::Exit(*when));
    }
    let mut words = field.declaration().type_text().split_whitespace();
    let is_const = words.any(|word| word == "const");
    (is_const || READ.contains(&(call, name))).then_some(Moment::Entry)
}

/// Returns the most elements that a call takes of an array which the next argument counts.
pub(super) fn most_elements(call: &str, argument: &str) -> Option<u32> {
    let mut counted = COUNTED.iter();
    let found = counted.find(|known| (known.0, known.1) == (call, argument));
    found.map(|(.., most)| *most)
}

/// Whether a call returns how many elements it has written there.
pub(super) fn is_counted_by_result(call: &str, argument: &str) -> bool {
    COUNTED_BY_RESULT.contains(&(call, argument))
}

/// Whether the first member of what an argument points at says how long it is.
pub(super) fn has_own_length(call: &str, argument: &str) -> bool {
    SIZED_INSIDE.contains(&(call, argument))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::shape::ValueShape;
    use crate::probe::plan::EventPlan;

    /// Each name of the tables is an argument of the running kernel's call, if it has the call,
    /// and what it points at has a type.
    #[test]
    fn tables_name_what_there_is() {
        const TEST: &str = "probe::directions::tests::tables_name_what_there_is";
        let Some(kernel) = crate::live_test::kernel(TEST) else {
            return;
        };
        let written = WRITTEN.iter().map(|(call, name, _)| (*call, *name));
        let counted = COUNTED.iter().map(|(call, name, _)| (*call, *name));
        let counted = counted.chain(COUNTED_BY_RESULT.iter().copied());
        let mut found = 0;
        for (call, name) in READ.iter().copied().chain(written).chain(counted) {
            let Ok(event) = kernel.tracepoint(format!("syscalls:sys_enter_{call}")) else {
                eprintln!("NOT ON THIS KERNEL: {call}");
                continue;
            };
            // Calls that read and write.
            let moment = if name == "ufds" { "@entry" } else { "" };
            let wanted = [format!("*{name}{moment}")];
            let plan = EventPlan::new(&event, Some(&wanted), 4096);
            let plan = plan.unwrap_or_else(|error| panic!("{call}: {error:?}"));
            let pointee = plan.fields[0].pointee.as_ref().expect("a pointee");
            assert!(pointee.shape.is_sound(), "{call}: {pointee:?}");
            let is_counted =
                most_elements(call, name).is_some() || is_counted_by_result(call, name);
            let is_array = matches!(pointee.shape, ValueShape::Array { .. });
            assert_eq!(is_array, is_counted, "{call}: {pointee:?}");
            found += 1;
        }
        assert!(found >= 60, "{found}");
    }
}
