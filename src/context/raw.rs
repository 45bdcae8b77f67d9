//! Raw tracepoints: programs get the arguments of the tracepoint itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::btf::Argument;

/// A tracepoint as programs of type `BPF_PROG_TYPE_RAW_TRACEPOINT` and `BPF_TRACE_RAW_TP`
/// (`tp_btf`) see it: a function called with these arguments. Events of tracefs are made
/// from tracepoints; some tracepoints have no event.
///
/// A `raw_tp` program gets the arguments as `u64 args[]` (`struct
/// bpf_raw_tracepoint_args`), a `tp_btf` program with their types.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawTracepoint {
    name: String,
    home: String,
    arguments: Vec<RawArgument>,
}

/// One argument of a [`RawTracepoint`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawArgument {
    name: Option<String>,
    c_type: String,
    declaration: String,
}

impl RawTracepoint {
    pub(crate) fn new(name: &str, home: &str, arguments: Vec<Argument>) -> Self {
        let argument = |(index, (name, ty)): (usize, Argument)| RawArgument {
            c_type: ty.declare(""),
            declaration: match &name {
                Some(name) => ty.declare(name),
                None => ty.declare(&format!("arg{index}")),
            },
            name,
        };
        Self {
            name: name.to_owned(),
            home: home.to_owned(),
            arguments: arguments.into_iter().enumerate().map(argument).collect(),
        }
    }

    /// Returns the length in bytes of the name and of all texts of arguments.
    pub(crate) fn length(&self) -> usize {
        let argument = |argument: &RawArgument| argument.c_type.len() + argument.declaration.len();
        self.name.len() + self.arguments.iter().map(argument).sum::<usize>()
    }

    /// Returns the tracepoint's name, which is that of its event without the category.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the object whose BTF defines the tracepoint: `vmlinux` or a
    /// module.
    pub fn home(&self) -> &str {
        &self.home
    }

    /// Returns the tracepoint's arguments, in order. A kernel's tracepoint has at most
    /// twelve (`MAX_BPF_FUNC_ARGS`).
    pub fn arguments(&self) -> &[RawArgument] {
        &self.arguments
    }

    /// Returns the ELF sections for the two program types: `raw_tp/<name>` and
    /// `tp_btf/<name>`.
    pub fn sections(&self) -> [String; 2] {
        ["raw_tp", "tp_btf"].map(|program| format!("{program}/{}", self.name))
    }
}

impl RawArgument {
    /// Returns the argument's name, if a function in BTF tells it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the argument's C type as an abstract declarator: `struct task_struct *`.
    pub fn c_type(&self) -> &str {
        &self.c_type
    }

    /// Returns the argument's declaration in C. An argument without a name is called
    /// `arg0`, `arg1` and so on, by its position.
    pub fn declaration(&self) -> &str {
        &self.declaration
    }
}

/// Writes `sched_switch(bool preempt, struct task_struct *prev, …)`.
impl fmt::Display for RawTracepoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<&str> = self
            .arguments
            .iter()
            .map(RawArgument::declaration)
            .collect();
        match arguments.as_slice() {
            [] => write!(out, "{}(void)", self.name),
            some => write!(out, "{}({})", self.name, some.join(", ")),
        }
    }
}
