//! The types of programs that can serve an event, and what each gets.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Kernel, Tracepoint};
use crate::context::RawTracepoint;
use crate::error::Error;
use crate::name::SyscallSide;

/// A type of program, as libbpf names it in sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProgramForm {
    /// `tp`: gets the event's context (`BPF_PROG_TYPE_TRACEPOINT`).
    Tp,
    /// `tp.s`: like `tp`, for system calls. It may sleep, so that it can read memory of the
    /// process that is not there yet (`bpf_copy_from_user`).
    TpSleepable,
    /// `raw_tp`: gets the tracepoint's arguments as numbers.
    RawTp,
    /// `tp_btf`: gets the arguments with their types, and loads from structs directly.
    TpBtf,
    /// `fentry`: runs on the function that makes a system call, and gets its argument.
    Fentry,
    /// `fexit`: runs when that function returns, and also gets the returned value.
    Fexit,
}

/// A way to serve an event or a tracepoint: see [`Tracepoint::programs`] and
/// [`RawTracepoint::programs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventProgram {
    form: ProgramForm,
    section: String,
    gets: String,
    since: String,
    nullable: Vec<String>,
}

impl ProgramForm {
    /// Returns libbpf's name: `tp`, `tp.s`, `raw_tp`, `tp_btf`, `fentry`, `fexit`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tp => "tp",
            Self::TpSleepable => "tp.s",
            Self::RawTp => "raw_tp",
            Self::TpBtf => "tp_btf",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
        }
    }
}

impl fmt::Display for ProgramForm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl EventProgram {
    /// Returns the type of program.
    pub fn form(&self) -> ProgramForm {
        self.form
    }

    /// Returns the ELF section in which libbpf expects it.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Returns what the program gets, in C if it can be said in C.
    pub fn gets(&self) -> &str {
        &self.gets
    }

    /// Returns the version of Linux that introduced the type for such an event. This kernel
    /// has it.
    pub fn since(&self) -> &str {
        &self.since
    }

    /// Returns the arguments that may be NULL by their names (`__nullable`, Linux 6.11).
    /// The verifier has a list of others (`raw_tp_null_args` of `kernel/bpf/btf.c`, Linux
    /// 6.13), which is not in BTF; `probe::nullable_arguments` asks the running kernel's.
    pub fn nullable(&self) -> &[String] {
        &self.nullable
    }
}

/// The functions that make system calls, by their prefix, each with the version since which
/// the architecture has programs on functions (trampolines).
const SYSCALL_FUNCTIONS: [(&str, &str); 3] = [
    ("__x64_sys_", "5.5"),
    ("__arm64_sys_", "6.0"),
    ("__s390x_sys_", "6.3"),
];

/// The function that runs sleepable programs at the tracepoints of system calls
/// (`kernel/trace/bpf_trace.c`).
const FAULTABLE: &str = "trace_call_bpf_faultable";

impl Tracepoint {
    /// Returns the types of programs that this kernel has for the event, in the order `tp`,
    /// `tp.s`, `raw_tp`, `tp_btf`, `fentry` or `fexit`; empty for an event that takes no
    /// programs.
    ///
    /// For an event of `syscalls:*`, `raw_tp` and `tp_btf` are those of `sys_enter` and
    /// `sys_exit`, which see all system calls; programs on functions are found by BTF.
    ///
    /// ```
    /// use tracepoints::Kernel;
    ///
    /// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
    /// let programs = kernel.tracepoint("sched:sched_switch")?.programs()?;
    /// let sections: Vec<&str> = programs.iter().map(|one| one.section()).collect();
    /// assert_eq!(
    ///     sections,
    ///     ["tp/sched/sched_switch", "raw_tp/sched_switch", "tp_btf/sched_switch"]
    /// );
    /// # Ok::<(), tracepoints::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`sections`](Self::sections).
    pub fn programs(&self) -> Result<Vec<EventProgram>, Error> {
        let name = self.name();
        let kernel = self.kernel();
        // Events made at run time take no programs of these types.
        let is_made = matches!(
            name.category(),
            "user_events" | "user_events_multi" | "synthetic"
        ) || Kernel::dynamic_event(&kernel.dynamic_events(), name).is_some();
        if is_made || self.sections()?.is_empty() {
            return Ok(Vec::new());
        }
        let context = self.context()?;
        let section = format!("{}/{}", name.category(), name.event());
        let gets = match context.struct_name() {
            Some(name) => format!("struct {name} *"),
            None => "a context without a struct of its own".to_owned(),
        };
        let mut programs = vec![EventProgram {
            form: ProgramForm::Tp,
            section: format!("tp/{section}"),
            gets: gets.clone(),
            since: "4.7".to_owned(),
            nullable: Vec::new(),
        }];
        let side = self.format().syscall_side(name);
        if side.is_some() && kernel.has_function(FAULTABLE)? {
            programs.push(EventProgram {
                form: ProgramForm::TpSleepable,
                section: format!("tp.s/{section}"),
                gets,
                // Linux 6.18 does not have it, and 7.2 does.
                since: "7.2 or a little earlier".to_owned(),
                nullable: Vec::new(),
            });
        }
        let raw = match side {
            None => self.raw()?,
            Some(side) => kernel.raw_syscall(side)?,
        };
        programs.extend(raw.iter().flat_map(|raw| of_raw(raw, side.is_some())));
        if let (Some(side), Some((_, call))) = (side, SyscallSide::and_call(name)) {
            programs.extend(kernel.on_function(side, call)?);
        }
        Ok(programs)
    }
}

impl RawTracepoint {
    /// Returns the types of programs that serve the tracepoint, whether or not it has an event:
    /// `raw_tp` and `tp_btf`. Both need a kernel with BTF, of which the tracepoint is known.
    ///
    /// ```
    /// use tracepoints::Kernel;
    ///
    /// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
    /// let programs = kernel.raw_tracepoint("sched_switch")?.programs();
    /// let sections: Vec<&str> = programs.iter().map(|one| one.section()).collect();
    /// assert_eq!(sections, ["raw_tp/sched_switch", "tp_btf/sched_switch"]);
    /// assert!(programs[1].gets().starts_with("bool arg0, struct task_struct *arg1"));
    /// # Ok::<(), tracepoints::Error>(())
    /// ```
    pub fn programs(&self) -> Vec<EventProgram> {
        of_raw(self, false).into()
    }
}

impl Kernel {
    /// Whether vmlinux's BTF has a function of this name.
    fn has_function(&self, name: &str) -> Result<bool, Error> {
        let vmlinux = self.inner.btf.vmlinux()?;
        Ok(vmlinux.is_some_and(|vmlinux| vmlinux.has_function(name)))
    }

    /// Returns the tracepoint that all system calls share.
    fn raw_syscall(&self, side: SyscallSide) -> Result<Option<RawTracepoint>, Error> {
        let name = match side {
            SyscallSide::Enter => "sys_enter",
            SyscallSide::Exit => "sys_exit",
        };
        match self.raw_tracepoint(name) {
            Ok(raw) => Ok(Some(raw)),
            Err(Error::NoRawTracepoint { .. } | Error::NoBtf { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the program on the function that makes a system call.
    fn on_function(&self, side: SyscallSide, call: &str) -> Result<Option<EventProgram>, Error> {
        for (prefix, since) in SYSCALL_FUNCTIONS {
            let function = format!("{prefix}{call}");
            if !self.has_function(&function)? {
                continue;
            }
            let (form, gets) = match side {
                SyscallSide::Enter => (ProgramForm::Fentry, "const struct pt_regs *regs"),
                SyscallSide::Exit => (ProgramForm::Fexit, "const struct pt_regs *regs, long ret"),
            };
            return Ok(Some(EventProgram {
                form,
                section: format!("{form}/{function}"),
                gets: gets.to_owned(),
                since: since.to_owned(),
                nullable: Vec::new(),
            }));
        }
        Ok(None)
    }
}

/// Returns the programs of a tracepoint. `is_shared` means that all system calls share it.
fn of_raw(raw: &RawTracepoint, is_shared: bool) -> [EventProgram; 2] {
    let is_of_module = raw.home() != "vmlinux";
    let arguments = raw.arguments();
    let declared: Vec<&str> = arguments.iter().map(|one| one.declaration()).collect();
    let of_all = if is_shared {
        ", of all system calls"
    } else {
        ""
    };
    let named = arguments.iter().filter_map(|one| one.name());
    let nullable = named.filter(|name| name.ends_with("__nullable"));
    let nullable: Vec<String> = nullable.map(str::to_owned).collect();
    let since = |built_in: &str, in_module: &str| {
        match is_of_module {
            true => in_module,
            false => built_in,
        }
        .to_owned()
    };
    let [raw_tp, tp_btf] = raw.sections();
    [
        EventProgram {
            form: ProgramForm::RawTp,
            section: raw_tp,
            gets: format!("__u64 args[{}]{of_all}", arguments.len()),
            since: since("4.17", "5.0"),
            nullable: nullable.clone(),
        },
        EventProgram {
            form: ProgramForm::TpBtf,
            section: tp_btf,
            gets: match declared.is_empty() {
                true => "no arguments".to_owned(),
                false => format!("{}{of_all}", declared.join(", ")),
            },
            since: since("5.5", "5.11"),
            nullable,
        },
    ]
}
