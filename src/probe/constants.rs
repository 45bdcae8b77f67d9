//! Names of numbers that a kernel's print fmts do not have: macros of its interface to
//! programs, as this machine has them.

use crate::kernel::Tracepoint;

/// The value of a name, for a field of an event: an enumerator of the kernel's, or of a
/// system call's arguments and result what its manual page calls it.
pub(super) fn value(event: &Tracepoint, field: &str, name: &str) -> Option<i64> {
    let is_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let is_syscall = matches!(event.name().category(), "syscalls" | "raw_syscalls");
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
