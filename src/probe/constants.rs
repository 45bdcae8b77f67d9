//! Names of numbers that a kernel's print fmts do not have: macros of its interface to
//! programs, as this machine has them.

use std::fmt::Write as _;

use crate::kernel::Tracepoint;

/// The value of a name, for a field of an event: an enumerator of the kernel's, or of a
/// system call's arguments and result what its manual page calls it.
pub(super) fn value(event: &Tracepoint, field: &str, name: &str) -> Option<i64> {
    let is_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let is_syscall = event.format().syscall_side(event.name()).is_some()
        || event.name().category() == "raw_syscalls";
    let value = match (is_syscall, field) {
        (true, "ret") if is_of(&["E"]) => macro_value(name),
        (true, _) if !is_of(&["E"]) => macro_value(name),
        _ => None,
    };
    value.or_else(|| event.kernel().constant(name))
}

/// Names and their values, of libc.
macro_rules! table {
    ($($name:ident)*) => {
        &[$((stringify!($name), libc::$name as i64),)*]
    };
}

fn macro_value(name: &str) -> Option<i64> {
    #[rustfmt::skip]
    const VALUES: &[(&str, i64)] = table! {
        O_RDONLY O_WRONLY O_RDWR O_ACCMODE O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND
        O_NONBLOCK O_DSYNC O_SYNC O_DIRECT O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC
        O_PATH O_TMPFILE
        AT_FDCWD AT_SYMLINK_NOFOLLOW AT_REMOVEDIR AT_SYMLINK_FOLLOW AT_EMPTY_PATH AT_EACCESS
        F_OK R_OK W_OK X_OK
        PROT_NONE PROT_READ PROT_WRITE PROT_EXEC
        MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS MAP_POPULATE MAP_STACK
        CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_THREAD CLONE_NEWNS CLONE_NEWPID
        CLONE_NEWNET CLONE_NEWUSER CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWCGROUP CLONE_VFORK
        AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
        SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_NONBLOCK SOCK_CLOEXEC
        MSG_PEEK MSG_DONTWAIT MSG_NOSIGNAL MSG_WAITALL
        SEEK_SET SEEK_CUR SEEK_END
        SIGHUP SIGINT SIGQUIT SIGILL SIGABRT SIGKILL SIGSEGV SIGPIPE SIGALRM SIGTERM
        SIGUSR1 SIGUSR2 SIGCHLD SIGCONT SIGSTOP
        EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES
        EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY
        ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG
        ENOLCK ENOSYS ENOTEMPTY ELOOP EWOULDBLOCK ENODATA ETIME EPROTO EOVERFLOW EILSEQ
        ENOTSOCK EDESTADDRREQ EMSGSIZE EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
        ENETDOWN ENETUNREACH ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ETIMEDOUT
        ECONNREFUSED EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED
    };
    let mut values = VALUES.iter();
    values
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

/// How an argument of a system call is made of named values.
#[derive(Clone, Copy)]
struct Naming {
    /// The bits that hold one value out of several, such as `O_ACCMODE`; 0 if there are
    /// none.
    choice: u64,
    values: &'static [(&'static str, i64)],
    /// Names of bits. One that includes others comes before them.
    bits: &'static [(&'static str, i64)],
}

impl Naming {
    const fn one_of(values: &'static [(&'static str, i64)]) -> Self {
        Self {
            choice: u64::MAX,
            values,
            bits: &[],
        }
    }

    const fn bits(bits: &'static [(&'static str, i64)]) -> Self {
        Self {
            choice: 0,
            values: &[],
            bits,
        }
    }

    /// Returns `None` if no part of the value has a name.
    fn name(&self, value: u64) -> Option<String> {
        let mut names = Vec::new();
        let chosen = value & self.choice;
        let mut rest = value & !self.choice;
        let mut values = self.values.iter();
        match values.find(|(_, known)| *known as u64 == chosen) {
            Some((name, _)) => names.push(*name),
            None => rest |= chosen,
        }
        for (name, bits) in self.bits {
            let bits = *bits as u64;
            if bits != 0 && rest & bits == bits {
                names.push(name);
                rest &= !bits;
            }
        }
        if names.is_empty() {
            return None;
        }
        let mut text = names.join("|");
        if rest != 0 {
            // Writing to a String is infallible.
            let _ = write!(text, "|{rest:#x}");
        }
        Some(text)
    }
}

#[rustfmt::skip]
const SIGNALS: &[(&str, i64)] = table! {
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2
    SIGPIPE SIGALRM SIGTERM SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU
    SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGSYS
};

/// Returns the names of a system call's argument as its manual page has them:
/// `O_WRONLY|O_CREAT`. Bits without a name follow as a number; `None` if nothing of the
/// value has a name. The values are those of the machine this is compiled for.
pub(super) fn of_argument(call: &str, argument: &str, value: u64) -> Option<String> {
    let file_at = || Naming::bits(table! { AT_SYMLINK_NOFOLLOW AT_SYMLINK_FOLLOW AT_EMPTY_PATH });
    let naming = match (call, argument) {
        // A directory's descriptor is an int, whatever the width of the argument.
        (_, "dfd" | "olddfd" | "newdfd") if value as i32 == libc::AT_FDCWD => {
            return Some("AT_FDCWD".to_owned());
        }
        ("open" | "openat", "flags") => Naming {
            choice: libc::O_ACCMODE as u64,
            values: table! { O_RDONLY O_WRONLY O_RDWR },
            bits: table! {
                O_TMPFILE O_SYNC O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_DSYNC
                O_DIRECT O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH
            },
        },
        ("pipe2", "flags") => Naming::bits(table! { O_CLOEXEC O_NONBLOCK O_DIRECT }),
        ("dup3", "flags") => Naming::bits(table! { O_CLOEXEC }),
        ("access" | "faccessat" | "faccessat2", "mode") if value == 0 => {
            Naming::one_of(table! { F_OK })
        }
        ("access" | "faccessat" | "faccessat2", "mode") => Naming::bits(table! { R_OK W_OK X_OK }),
        ("mmap" | "mprotect" | "pkey_mprotect", "prot") if value == 0 => {
            Naming::one_of(table! { PROT_NONE })
        }
        ("mmap" | "mprotect" | "pkey_mprotect", "prot") => {
            Naming::bits(table! { PROT_READ PROT_WRITE PROT_EXEC })
        }
        ("mmap", "flags") => Naming {
            choice: libc::MAP_TYPE as u64,
            values: table! { MAP_SHARED MAP_PRIVATE MAP_SHARED_VALIDATE },
            bits: table! {
                MAP_FIXED MAP_ANONYMOUS MAP_FIXED_NOREPLACE MAP_GROWSDOWN MAP_LOCKED
                MAP_NORESERVE MAP_POPULATE MAP_STACK MAP_HUGETLB
            },
        },
        ("unlinkat", "flag") => Naming::bits(table! { AT_REMOVEDIR }),
        ("newfstatat", "flag") | ("linkat" | "statx" | "faccessat2" | "fchownat", "flags") => {
            file_at()
        }
        ("lseek", "whence") => {
            Naming::one_of(table! { SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE })
        }
        ("kill" | "tkill" | "tgkill" | "rt_sigaction" | "pidfd_send_signal", "sig") => {
            Naming::one_of(SIGNALS)
        }
        ("socket" | "socketpair", "family") => {
            Naming::one_of(table! { AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET })
        }
        ("socket" | "socketpair", "type") => Naming {
            // SOCK_TYPE_MASK of include/linux/net.h.
            choice: 0xf,
            values: table! { SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET },
            bits: table! { SOCK_NONBLOCK SOCK_CLOEXEC },
        },
        ("accept4", "flags") => Naming::bits(table! { SOCK_NONBLOCK SOCK_CLOEXEC }),
        ("sendto" | "recvfrom" | "sendmsg" | "recvmsg" | "sendmmsg" | "recvmmsg", "flags") => {
            Naming::bits(table! {
                MSG_PEEK MSG_DONTWAIT MSG_NOSIGNAL MSG_WAITALL MSG_MORE MSG_TRUNC MSG_CMSG_CLOEXEC
            })
        }
        ("epoll_ctl", "op") => Naming::one_of(table! { EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD }),
        ("epoll_create1", "flags") => Naming::bits(table! { EPOLL_CLOEXEC }),
        _ => return None,
    };
    naming.name(value)
}

#[cfg(test)]
mod tests {
    use super::of_argument;

    #[test]
    fn arguments_by_their_manual_pages() {
        let value = |parts: &[i32]| parts.iter().fold(0, |all, part| all | *part as u64);
        for (call, argument, value, expected) in [
            ("openat", "dfd", -100_i64 as u64, Some("AT_FDCWD")),
            ("openat", "dfd", 0xffff_ff9c, Some("AT_FDCWD")),
            ("openat", "dfd", 3, None),
            ("openat", "flags", 0, Some("O_RDONLY")),
            (
                "openat",
                "flags",
                value(&[libc::O_WRONLY, libc::O_CREAT, libc::O_CLOEXEC]),
                Some("O_WRONLY|O_CREAT|O_CLOEXEC"),
            ),
            // One name, though O_SYNC includes O_DSYNC, and O_TMPFILE O_DIRECTORY.
            (
                "open",
                "flags",
                value(&[libc::O_RDWR, libc::O_SYNC, libc::O_TMPFILE]),
                Some("O_RDWR|O_TMPFILE|O_SYNC"),
            ),
            ("open", "flags", 1 << 40, Some("O_RDONLY|0x10000000000")),
            // Access mode 3 has no name.
            ("open", "flags", 3, None),
            ("mprotect", "prot", 0, Some("PROT_NONE")),
            ("mprotect", "prot", 5, Some("PROT_READ|PROT_EXEC")),
            (
                "mmap",
                "flags",
                value(&[libc::MAP_PRIVATE, libc::MAP_ANONYMOUS]),
                Some("MAP_PRIVATE|MAP_ANONYMOUS"),
            ),
            ("kill", "sig", 9, Some("SIGKILL")),
            ("kill", "sig", 0, None),
            ("kill", "sig", 64, None),
            (
                "socket",
                "type",
                value(&[libc::SOCK_DGRAM, libc::SOCK_CLOEXEC]),
                Some("SOCK_DGRAM|SOCK_CLOEXEC"),
            ),
            ("faccessat", "mode", 0, Some("F_OK")),
            ("unlinkat", "flag", 0, None),
            ("read", "flags", 1, None),
        ] {
            let named = of_argument(call, argument, value);
            assert_eq!(named.as_deref(), expected, "{call} {argument} {value:#x}");
        }
    }
}
