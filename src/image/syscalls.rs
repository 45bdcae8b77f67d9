//! The events of system calls, as `kernel/trace/trace_syscalls.c` makes them at boot.

use std::collections::HashSet;
use std::fmt::Write;

use super::format_text::ImageField;
use super::memory::ImageMemory;
use super::structs::SyscallPlaces;
use super::symbols::Symbols;

/// A system call's metadata.
#[derive(Debug)]
pub(super) struct Syscall<'a> {
    /// The name, such as `sys_openat`.
    name: &'a str,
    types: Vec<&'a str>,
    arguments: Vec<&'a str>,
    enter_event: u64,
}

/// Limit on arguments; a system call has at most 6.
const MAX_ARGUMENTS: u64 = 16;
/// Limit on system calls. Kernels have 500, but the numbers of some machines begin at some
/// thousands.
const MAX_SYSCALLS: u64 = 1 << 16;

impl<'a> Syscall<'a> {
    /// Reads the metadata at an address.
    pub(super) fn at(
        memory: &'a ImageMemory,
        places: &SyscallPlaces,
        address: u64,
    ) -> Option<Self> {
        let count = places.argument_count.read(memory, address)?;
        if count > MAX_ARGUMENTS {
            return None;
        }
        let texts = |array: u64| {
            let size = u64::from(memory.machine().long_size());
            let text = |index| memory.text(memory.pointer(array.checked_add(index * size)?)?);
            (0..count).map(text).collect::<Option<Vec<&str>>>()
        };
        Some(Self {
            name: memory.text(places.name.read(memory, address)?)?,
            types: texts(places.types.read(memory, address)?)?,
            arguments: texts(places.arguments.read(memory, address)?)?,
            enter_event: places.enter_event.read(memory, address)?,
        })
    }

    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// Whether the event at this address is that of the call's beginning.
    pub(super) fn is_entered_by(&self, call: u64) -> bool {
        self.enter_event == call
    }

    /// Returns a slot of the size of a `long` for each argument, and then the text or bytes
    /// recorded with it: `syscall_enter_define_fields()`.
    pub(super) fn fields(&self, memory: &ImageMemory, places: &SyscallPlaces) -> Vec<ImageField> {
        let long = u64::from(memory.machine().long_size());
        let mut offset = u64::from(places.first_argument);
        let mut fields = Vec::new();
        for (type_text, name) in self.types.iter().zip(&self.arguments) {
            fields.push(ImageField {
                type_text: (*type_text).to_owned(),
                name: (*name).to_owned(),
                offset,
                size: long,
                is_signed: false,
                length: 0,
            });
            offset += long;
        }
        for (_, argument) in self.pointees(memory, places).arguments(&self.arguments) {
            fields.push(ImageField {
                type_text: "__data_loc char[]".to_owned(),
                name: format!("__{argument}_val"),
                offset,
                size: 4,
                is_signed: false,
                length: 0,
            });
            offset += 4;
        }
        fields
    }

    fn pointees(&self, memory: &ImageMemory, places: &SyscallPlaces) -> Pointees {
        match places.has_pointees {
            true => Pointees::of(self.name, memory.machine().long_size() == 4),
            false => Pointees::NONE,
        }
    }

    /// Returns the text of `__set_enter_print_fmt()`; `None` for a machine whose flags of
    /// files are not known.
    pub(super) fn print_fmt(
        &self,
        memory: &ImageMemory,
        places: &SyscallPlaces,
        flags: Option<&OpenFlags>,
    ) -> Option<String> {
        if places.has_pointees && self.name == "sys_openat" {
            return Some(openat_print_fmt(flags?));
        }
        let pointees = self.pointees(memory, places);
        let has_pointee = |index: usize| pointees.mask & 1 << index != 0;
        let width = memory.machine().long_size();
        let mut text = String::from("\"");
        for (index, name) in self.arguments.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            // Writing to a `String` is infallible.
            let _ = write!(text, "{comma}{name}: 0x%0{width}lx");
            if has_pointee(index) {
                text += match pointees.is_text {
                    true => " \\\"%s\\\"",
                    false => " (%s)",
                };
            }
        }
        text.push('"');
        for (index, name) in self.arguments.iter().enumerate() {
            let _ = write!(text, ", ((unsigned long)(REC->{name}))");
            if has_pointee(index) {
                let _ = match pointees.is_text {
                    true => write!(text, ", __get_str(__{name}_val)"),
                    false => write!(text, ", __print_dynamic_array(__{name}_val, 1)"),
                };
            }
        }
        Some(text)
    }
}

/// The arguments whose pointees are recorded with them: `check_faultable_syscall()`.
#[derive(Clone, Copy, Debug)]
struct Pointees {
    /// A bit for each argument.
    mask: u32,
    /// Whether the pointees are texts, and not bytes.
    is_text: bool,
}

impl Pointees {
    const NONE: Self = Self {
        mask: 0,
        is_text: true,
    };

    /// Returns the pointees of a call. The kernel decides by the call's number, whose name
    /// in `unistd.h` is not always that of the function: `umount2` is `sys_umount`. On
    /// 32-bit machines, the numbers of calls with a time or a uid are those of functions
    /// with another suffix.
    fn of(name: &str, is_32_bit: bool) -> Self {
        let call = name.strip_prefix("sys_").unwrap_or(name);
        let (call, is_old) = match call
            .strip_suffix("_time32")
            .or_else(|| call.strip_suffix("16"))
        {
            Some(short) => (short, true),
            None => (call, false),
        };
        let has_old = matches!(
            call,
            "chown" | "lchown" | "utimes" | "futimesat" | "utimensat" | "mq_timedsend"
        );
        if is_old && !has_old || is_32_bit && has_old && !is_old {
            return Self::NONE;
        }
        let (mask, is_text) = match call {
            "write" | "mq_timedsend" | "pwrite64" => (1 << 1, false),
            "access" | "acct" | "chdir" | "chown" | "chmod" | "chroot" | "creat"
            | "delete_module" | "execve" | "fsopen" | "lchown" | "open" | "memfd_create"
            | "mkdir" | "mknod" | "mq_open" | "mq_unlink" | "readlink" | "rmdir" | "shmdt"
            | "statfs" | "swapon" | "swapoff" | "truncate" | "unlink" | "umount" | "utime"
            | "utimes" | "setdomainname" | "sethostname" => (1, true),
            "execveat" | "faccessat" | "faccessat2" | "finit_module" | "fchmodat" | "fchmodat2"
            | "fchownat" | "fgetxattr" | "flistxattr" | "fsetxattr" | "fspick" | "fremovexattr"
            | "futimesat" | "inotify_add_watch" | "mkdirat" | "mknodat" | "mount_setattr"
            | "name_to_handle_at" | "newfstatat" | "openat" | "openat2" | "open_tree"
            | "open_tree_attr" | "readlinkat" | "quotactl" | "syslog" | "statx" | "unlinkat"
            | "utimensat" => (1 << 1, true),
            "init_module" | "fsconfig" => (1 << 2, true),
            "fanotify_mark" | "kexec_file_load" => (1 << 4, true),
            "add_key" | "getxattr" | "lgetxattr" | "lremovexattr" | "link" | "listxattr"
            | "llistxattr" | "lsetxattr" | "pivot_root" | "removexattr" | "rename"
            | "request_key" | "setxattr" | "symlink" => (1 | 1 << 1, true),
            "symlinkat" => (1 | 1 << 2, true),
            "getxattrat" | "linkat" | "listxattrat" | "move_mount" | "renameat" | "renameat2"
            | "removexattrat" | "setxattrat" => (1 << 1 | 1 << 3, true),
            "mount" => (1 | 1 << 1 | 1 << 2, true),
            _ => (0, true),
        };
        Self { mask, is_text }
    }

    fn arguments<'n>(self, names: &[&'n str]) -> impl Iterator<Item = (usize, &'n str)> {
        let all: Vec<(usize, &str)> = names.iter().copied().enumerate().collect();
        all.into_iter()
            .filter(move |(index, _)| self.mask & 1 << index != 0)
    }
}

/// The flags of `open()` that differ between machines.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFlags {
    direct: u32,
    large_file: u32,
    directory: u32,
    no_follow: u32,
}

impl OpenFlags {
    /// `include/uapi/asm-generic/fcntl.h`: x86, s390, riscv, loongarch.
    pub(super) const GENERIC: Self = Self {
        direct: 0x4000,
        large_file: 0x8000,
        directory: 0x10000,
        no_follow: 0x20000,
    };
    /// `arch/arm64/include/uapi/asm/fcntl.h`, and arm's.
    pub(super) const ARM: Self = Self {
        direct: 0x10000,
        large_file: 0x20000,
        directory: 0x4000,
        no_follow: 0x8000,
    };
}

/// Returns the text of `sys_enter_openat_print_fmt()`.
fn openat_print_fmt(flags: &OpenFlags) -> String {
    let names = [
        (0x1, "O_WRONLY"),
        (0x2, "O_RDWR"),
        (0x40, "O_CREAT"),
        (0x80, "O_EXCL"),
        (0x100, "O_NOCTTY"),
        (0x200, "O_TRUNC"),
        (0x400, "O_APPEND"),
        (0x800, "O_NONBLOCK"),
        (0x1000, "O_DSYNC"),
        (flags.direct, "O_DIRECT"),
        (flags.large_file, "O_LARGEFILE"),
        (flags.directory, "O_DIRECTORY"),
        (flags.no_follow, "O_NOFOLLOW"),
        (0x40000, "O_NOATIME"),
        (0x80000, "O_CLOEXEC"),
    ];
    let names: Vec<String> = names
        .iter()
        .map(|(value, name)| format!("{{ {value:#x}, \"{name}\" }}"))
        .collect();
    format!(
        "\"dfd: 0x%08lx, filename: 0x%08lx \\\"%s\\\", flags: %s%s, mode: 0%03o\", \
         ((unsigned long)(REC->dfd)), ((unsigned long)(REC->filename)), \
         __get_str(__filename_val), (REC->flags & ~3) && !(REC->flags & 3) ? \"O_RDONLY|\" : \
         \"\",  REC->flags ? __print_flags(REC->flags, \"|\", {}) : \"O_RDONLY\",  \
         ((unsigned long)(REC->mode))",
        names.join(", ")
    )
}

/// Returns the names of the functions in the table of system calls. Only a call in the
/// table has events (`init_ftrace_syscalls()`). `None` if the table cannot be found.
pub(super) fn called_functions<'a>(
    memory: &ImageMemory,
    symbols: &'a Symbols,
) -> Option<HashSet<&'a str>> {
    let table = symbols.address_of("sys_call_table")?;
    let size = u64::from(memory.machine().long_size());
    let end = symbols.next_after(table).unwrap_or(u64::MAX);
    let mut names = HashSet::new();
    for index in 0..MAX_SYSCALLS {
        let at = table.checked_add(index * size)?;
        let function = memory.pointer(at).filter(|_| at < end);
        let Some(function) = function else { break };
        let mut found = symbols.at(function).peekable();
        if found.peek().is_none() {
            break;
        }
        // `sys_ni_syscall`, the function of numbers without a call, has metadata too.
        names.extend(
            found
                .filter_map(call_of)
                .filter(|call| *call != "sys_ni_syscall"),
        );
    }
    (!names.is_empty()).then_some(names)
}

/// Returns the name without the machine's prefix, `sys_openat` for `__x64_sys_openat`:
/// `arch_syscall_match_sym_name()` of each machine.
fn call_of(function: &str) -> Option<&str> {
    const PREFIXES: [&str; 9] = [
        "__x64_", "__ia32_", "__arm64_", "__riscv_", "__s390x_", "__s390_", "__se_", "__do_", "",
    ];
    PREFIXES
        .iter()
        .filter_map(|prefix| function.strip_prefix(prefix))
        .find(|rest| rest.starts_with("sys_") || rest.starts_with("old_"))
}
