//! How records of a kernel's events are read and printed: its pages, its flag columns, and
//! the names of its numbers, functions and tasks.

use super::Kernel;
use super::enumerators::enumerators;
use crate::error::Error;
use crate::format::Format;
use crate::format::print::PrintFmtError;
use crate::machine::Machine;
use crate::name::EventName;
use crate::record::ring::PageLayout;
use crate::text::{
    Addresses, FlagColumns, GfpFlags, KernelVersion, Renderer, SyscallStyle, TaskNames, TraceClock,
    TraceStyle,
};

/// Limit on `kallsyms` in bytes. Kernels with all their modules have up to 300 MB, most
/// only 10 to 20.
pub(super) const KALLSYMS_LIMIT: u64 = 512 << 20;

impl Kernel {
    /// Returns the layout of the ring buffer's pages, from `events/header_page`.
    ///
    /// # Errors
    ///
    /// [`Error::NoPageLayout`] if there is no such file, [`Error::PageLayout`] if this
    /// crate does not know the layout; [`Error::File`].
    pub fn page_layout(&self) -> Result<PageLayout, Error> {
        self.inner.tracefs.page_layout()
    }

    /// Returns the kernel's version, from `/proc/version` of the running kernel, or from
    /// a capture's `proc/version` beside `tracing`. `None` if there is no such file, or
    /// no version in it.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about that file.
    pub fn version(&self) -> Result<Option<KernelVersion>, Error> {
        const LIMIT: u64 = 4096;
        if let Some(version) = self.inner.version.get() {
            return Ok(*version);
        }
        let text = self.inner.proc.bytes("version", LIMIT)?;
        let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
        let version = text.and_then(|text| text.parse().ok());
        Ok(*self.inner.version.get_or_init(|| version))
    }

    /// Returns the flag letters, for the state of a CPU, that the kernel's `trace` file
    /// shows.
    ///
    /// They follow from [`version`](Self::version) and the common fields of records. A
    /// kernel of unknown version is assumed to be Linux 5.12 or older without
    /// `ftrace:func_repeats`, and otherwise 5.15 or later, which is wrong for 5.13 and
    /// 5.14. The legend in a `trace` file is another source ([`FlagColumns::of_legend`]).
    ///
    /// # Errors
    ///
    /// Those of [`tracepoint`](Self::tracepoint), about `ftrace:print`, and of
    /// [`version`](Self::version).
    pub fn flag_columns(&self) -> Result<FlagColumns, Error> {
        let version = self.version()?;
        let has = |name: &str| -> Result<bool, Error> {
            let name: EventName = name.parse()?;
            Ok(self.inner.tracefs.has_format(&name))
        };
        // Excerpts of a kernel may have no events of ftrace's own.
        if !has("ftrace:print")? {
            return Ok(match version {
                Some(version) if version < KernelVersion::new(5, 15, 0) => FlagColumns::Four,
                _ => FlagColumns::Five,
            });
        }
        let print = self.tracepoint("ftrace:print")?;
        if let Some(version) = version {
            return Ok(FlagColumns::of_version(version, print.format()));
        }
        match FlagColumns::of_format(print.format()) {
            FlagColumns::Five if !has("ftrace:func_repeats")? => Ok(FlagColumns::Four),
            columns => Ok(columns),
        }
    }

    /// Returns how the kernel's `trace` file shows the part of a line before the text: flag
    /// letters, times by its `trace_clock`, and details that depend on its version.
    ///
    /// An instance, and pages saved from it, have their own `trace_clock`:
    /// [`TraceStyle::with_clock`].
    ///
    /// # Errors
    ///
    /// Those of [`flag_columns`](Self::flag_columns), and [`Error::File`] about
    /// `trace_clock`.
    pub fn trace_style(&self) -> Result<TraceStyle, Error> {
        let mut style = TraceStyle::new(self.flag_columns()?);
        if let Some(version) = self.version()? {
            style = style.with_version(version);
        }
        let clock = self.inner.tracefs.trace_clock()?;
        let clock = clock.and_then(|text| TraceClock::of_file(&text));
        Ok(style.with_clock(clock.unwrap_or_default()))
    }

    /// Returns how the kernel's `trace` file writes the arguments of system calls, which
    /// depends on its [`version`](Self::version). A kernel of unknown version is assumed to
    /// be older than 6.18 if it shows four letters ([`FlagColumns::Four`]), and otherwise
    /// newer.
    fn syscall_style(&self) -> SyscallStyle {
        let style = || match self.version() {
            Ok(Some(version)) => SyscallStyle::of_version(version),
            _ => match self.flag_columns() {
                Ok(FlagColumns::Four | FlagColumns::FiveWhole | FlagColumns::SevenWhole) => {
                    SyscallStyle::Bare
                }
                _ => SyscallStyle::Prefixed,
            },
        };
        *self.inner.syscall_style.get_or_init(style)
    }

    /// Returns a [`Renderer`], which prints records of an event of this kernel.
    /// Enumerators in the print fmt are looked up in BTF, in vmlinux first; one that
    /// several enums define with different values is unknown. The text also depends on
    /// the kernel's version, its `dynamic_events`, and names of flags in other events'
    /// print fmts.
    ///
    /// # Errors
    ///
    /// [`PrintFmtError`] if the print fmt cannot be parsed.
    pub fn renderer(
        &self,
        event: &EventName,
        format: &Format,
        machine: Machine,
    ) -> Result<Renderer, PrintFmtError> {
        let constant = |name: &str| self.constant(name);
        let mut renderer = Renderer::with_constants(event, format, machine, &constant)?;
        if let Ok(Some(version)) = self.version() {
            renderer = renderer.with_version(version);
        }
        if renderer.is_syscall() {
            renderer = renderer.with_syscall_style(self.syscall_style());
        }
        if renderer.is_probe() {
            renderer = renderer.with_dynamic_events(&self.dynamic_events());
        }
        if renderer.needs_gfp_flags()
            && let Some(flags) = self.gfp_flags()
        {
            renderer = renderer.with_gfp_flags(flags);
        }
        Ok(renderer)
    }

    /// Returns the names of the bits of a `gfp_t`, from the print fmt of an event that
    /// allocates memory: each kernel has its own.
    fn gfp_flags(&self) -> Option<GfpFlags> {
        [
            "kmem:kmem_cache_alloc",
            "kmem:kmalloc",
            "kmem:mm_page_alloc",
        ]
        .iter()
        .find_map(|name| {
            let event = self.tracepoint(name).ok()?;
            let print = event.format().print().ok()?;
            let (constant, long_size) = (|name: &str| self.constant(name), || self.long_size());
            let told = print.field_with_constants("gfp_flags", &constant, &long_size);
            let flags = told.flags.into_iter();
            let flags: Option<GfpFlags> =
                flags.map(|flag| Some((flag.value?, flag.name))).collect();
            flags.filter(|flags| !flags.is_empty())
        })
    }

    /// Returns the value of an enumerator of vmlinux, or else of a module; `None` if
    /// there is none, or if there are several.
    pub(crate) fn constant(&self, name: &str) -> Option<i64> {
        let vmlinux = self.inner.constants.get_or_init(|| {
            let vmlinux = self.inner.btf.vmlinux().ok().flatten();
            enumerators(vmlinux.as_slice())
        });
        if let Some(value) = vmlinux.as_ref()?.get(name) {
            return *value;
        }
        let modules = self.inner.module_constants.get_or_init(|| {
            let objects = self.inner.btf.objects().unwrap_or_default();
            enumerators(objects.get(1..).unwrap_or_default())
        });
        modules.as_ref()?.get(name).copied().flatten()
    }

    /// Returns the names of addresses of the kernel: strings, from `printk_formats`, and
    /// functions, from `/proc/kallsyms` if this process may see them, or from a captured
    /// kernel's `proc/kallsyms`.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about `printk_formats`.
    pub fn addresses(&self) -> Result<Addresses, Error> {
        let mut addresses = Addresses::new();
        if let Some(strings) = self.inner.tracefs.printk_formats()? {
            addresses = addresses.with_printk_formats(&strings);
        }
        if let Some(symbols) = self.symbols()? {
            addresses = addresses.with_kallsyms(&String::from_utf8_lossy(&symbols));
        }
        Ok(addresses)
    }

    /// Returns `/proc/kallsyms`, or a captured kernel's; `None` if this process may not see
    /// the running kernel's.
    pub(super) fn symbols(&self) -> Result<Option<Vec<u8>>, Error> {
        match self.inner.proc.bytes("kallsyms", KALLSYMS_LIMIT) {
            // The running kernel may hide its symbols.
            Err(_) if self.inner.is_live => Ok(None),
            symbols => symbols,
        }
    }

    /// Returns the names of processes that the kernel saved while tracing, from
    /// `saved_cmdlines`, and their thread groups, from `saved_tgids`. Thread groups are
    /// left out if that file is empty, or if `trace` does not show them by
    /// `options/record-tgid`. Without the files, there are none.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about that file.
    pub fn task_names(&self) -> Result<TaskNames, Error> {
        let names = self.inner.tracefs.saved_cmdlines()?;
        let names = TaskNames::parse(names.unwrap_or_default());
        if self.inner.tracefs.shows_groups()? == Some(false) {
            return Ok(names);
        }
        Ok(match self.inner.tracefs.saved_tgids()? {
            Some(groups) if !groups.is_empty() => names.with_groups(groups),
            _ => names,
        })
    }
}
