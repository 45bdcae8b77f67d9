//! Tracepoints by BTF alone, for users who may not read tracefs.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Kernel;
use crate::btf::Object;
use crate::context::RawTracepoint;
use crate::error::Error;
use crate::files::{BtfDir, Dir, FileTree, capture_proc};
use crate::layout::Layout;

/// A kernel's tracepoints as far as its BTF tells. `/sys/kernel/btf` is readable by
/// everyone, tracefs by root alone: this is what an ordinary user can know.
///
/// BTF has the name of each tracepoint, its arguments, and the structs of event classes. It
/// does not have categories, format files or the events of `syscalls:*`, and it does not
/// tell the class of an event without a struct of its own name.
///
/// ```
/// use tracepoints::kernel::BtfKernel;
///
/// let kernel = BtfKernel::at("tests/fixtures/6.18.15-x86_64");
/// let exec = kernel.tracepoint("sched_process_exec")?;
/// assert_eq!(exec.struct_name(), Some("trace_event_raw_sched_process_exec"));
/// # Ok::<(), tracepoints::Error>(())
/// ```
#[derive(Debug)]
pub struct BtfKernel {
    btf: BtfDir,
    proc: Dir,
}

/// A tracepoint as BTF knows it: see [`BtfKernel`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BtfTracepoint {
    #[serde(flatten)]
    raw: RawTracepoint,
    #[serde(rename = "struct")]
    struct_name: Option<String>,
    layout: Option<Layout>,
}

impl BtfKernel {
    /// Opens the running kernel's BTF: `/sys/kernel/btf`.
    pub fn live() -> Self {
        Self::new(Dir::live("/sys/kernel"))
    }

    /// Opens the BTF of a kernel captured in `root`, with `btf/vmlinux` and `btf/<module>`.
    pub fn at(root: impl AsRef<Path>) -> Self {
        Self::new(Dir::captured(root.as_ref()))
    }

    fn new(root: Dir) -> Self {
        Self {
            btf: BtfDir::new(root.sub("btf")),
            proc: match root.is_live() {
                true => Dir::live("/proc"),
                false => root.sub("proc"),
            },
        }
    }

    /// Adds BTF and what `/proc` says of the kernel to the tree. Returns the names of
    /// objects that may not be read.
    pub(super) fn capture_files(&self, tree: &mut FileTree) -> Result<Vec<String>, Error> {
        // Fails with the error of a list of tracepoints.
        self.objects()?;
        capture_proc(&self.proc, tree)?;
        self.btf.capture(tree)
    }

    /// Returns all tracepoints, sorted by name, including those of loaded modules. A module
    /// whose BTF cannot be read has none.
    ///
    /// # Errors
    ///
    /// [`Error::NoBtf`], [`Error::Btf`] if vmlinux's is not sound or types cannot be
    /// followed, [`Error::File`].
    pub fn tracepoints(&self) -> Result<Vec<BtfTracepoint>, Error> {
        let mut all = Vec::new();
        for object in self.objects()? {
            for name in object.index().event_names() {
                all.push(self.of(name, &object)?);
            }
        }
        all.sort_by(|a, b| {
            let key = |one: &BtfTracepoint| (one.raw.name().to_owned(), one.raw.home().to_owned());
            key(a).cmp(&key(b))
        });
        Ok(all)
    }

    /// Returns the tracepoint of this name, which has no category.
    ///
    /// # Errors
    ///
    /// [`Error::NoRawTracepoint`] if no object defines it, and those of
    /// [`tracepoints`](Self::tracepoints).
    pub fn tracepoint(&self, name: &str) -> Result<BtfTracepoint, Error> {
        let objects = self.objects()?;
        let home = objects.iter().find(|object| object.index().has_event(name));
        match home {
            Some(home) => self.of(name, home),
            None => Err(Error::NoRawTracepoint {
                name: name.escape_debug().to_string(),
            }),
        }
    }

    fn objects(&self) -> Result<Vec<Arc<Object>>, Error> {
        let objects = self.btf.objects()?;
        match objects.is_empty() {
            true => Err(Error::NoBtf {
                path: self.btf.path().join("vmlinux"),
            }),
            false => Ok(objects),
        }
    }

    fn of(&self, name: &str, home: &Object) -> Result<BtfTracepoint, Error> {
        let failed = |source| Error::Btf {
            path: self.btf.path().join(home.name()),
            source,
        };
        let arguments = home.arguments(name).map_err(failed)?;
        let index = home.index();
        // A class of this name that takes other arguments belongs to another event.
        let fits = index
            .classes_taking(index.prototype_of(name))
            .any(|class| class.name() == name);
        let class = match index.classes_named(name) {
            [class] if fits => Some(class),
            _ => None,
        };
        let layout = class.map(|class| home.layout(class.struct_id));
        Ok(BtfTracepoint {
            raw: RawTracepoint::new(name, home.name(), arguments.unwrap_or_default()),
            struct_name: class.map(|class| class.struct_name().to_string()),
            layout: layout.transpose().map_err(failed)?,
        })
    }
}

impl Kernel {
    /// Returns the kernel by its BTF, if nothing else is known of it: it was opened from a BTF
    /// object, or captured by an ordinary user. Lists and events are then
    /// [`Error::EventsUnknown`].
    ///
    /// ```
    /// use std::fs;
    /// use tracepoints::{Error, Kernel};
    ///
    /// let root = tempfile::tempdir()?;
    /// fs::create_dir(root.path().join("btf"))?;
    /// fs::copy("tests/fixtures/6.18.15-x86_64/btf/vmlinux", root.path().join("btf/vmlinux"))?;
    /// let kernel = Kernel::at(root.path())?;
    /// assert!(matches!(kernel.events(), Err(Error::EventsUnknown { .. })));
    /// let known = kernel.btf_alone().expect("it has BTF alone");
    /// assert!(known.tracepoint("sched_switch").is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn btf_alone(&self) -> Option<BtfKernel> {
        let is_known = self.inner.tracefs.is_btf_alone();
        is_known.then(|| BtfKernel {
            btf: self.inner.btf.anew(),
            proc: self.inner.proc.clone(),
        })
    }
}

impl BtfTracepoint {
    /// Returns the tracepoint's name, home and arguments.
    pub fn raw(&self) -> &RawTracepoint {
        &self.raw
    }

    /// Returns `trace_event_raw_<name>`, if the object that defines the tracepoint has this
    /// struct and its class takes the same arguments. BTF alone names it, without a check
    /// against a format file. `None` if the event, if there is one, is of a class of
    /// another name.
    pub fn struct_name(&self) -> Option<&str> {
        self.struct_name.as_deref()
    }

    /// Returns the layout of that struct.
    pub fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref()
    }
}
