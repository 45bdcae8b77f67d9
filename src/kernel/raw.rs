//! Tracepoints without their events: the arguments that raw programs get.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::Kernel;
use crate::btf::{BtfError, Object};
use crate::context::{FormatReason, Homes, RawTracepoint};
use crate::error::Error;
use crate::name::EventName;

/// Limit on all arguments as C, in bytes. Kernels' have some 10 KB.
const BARE_LIMIT: usize = 64 << 20;

impl Kernel {
    /// Returns the names of the kernel's BTF objects: `vmlinux`, then the modules,
    /// sorted.
    ///
    /// # Errors
    ///
    /// [`Error::NoBtf`]; [`Error::Btf`] if vmlinux's is not sound;
    /// [`Error::File`].
    pub fn btf_objects(&self) -> Result<Vec<String>, Error> {
        if self.inner.btf.vmlinux()?.is_none() {
            return Err(self.no_btf());
        }
        let mut names = vec!["vmlinux".to_owned()];
        names.extend(self.inner.btf.module_names()?);
        Ok(names)
    }

    /// Returns a tracepoint, with or without events: see [`RawTracepoint`].
    ///
    /// # Errors
    ///
    /// [`Error::NoRawTracepoint`] if no BTF object defines one of this name, and
    /// those of [`btf_objects`](Self::btf_objects).
    pub fn raw_tracepoint(&self, name: &str) -> Result<RawTracepoint, Error> {
        let (raw, _) = self.raw_tracepoint_and_home(name)?;
        Ok(raw)
    }

    /// Returns the tracepoint of this name, and the object that defines it.
    pub(crate) fn raw_tracepoint_and_home(
        &self,
        name: &str,
    ) -> Result<(RawTracepoint, Arc<Object>), Error> {
        let home = self.homes_of_raw(name)?.swap_remove(0);
        Ok((self.raw(name, &home)?, home))
    }

    /// Returns the objects that define a tracepoint of this name, at least one: vmlinux
    /// alone if it does, and otherwise modules.
    pub(crate) fn homes_of_raw(&self, name: &str) -> Result<Vec<Arc<Object>>, Error> {
        match self.homes_now(name, false)? {
            Homes::Found(homes) if !homes.is_empty() => Ok(homes),
            Homes::None(FormatReason::NoBtf) => Err(self.no_btf()),
            _ => Err(Error::NoRawTracepoint {
                name: name.escape_debug().to_string(),
            }),
        }
    }

    /// Returns the names of all tracepoints that BTF defines, with or without events,
    /// sorted; a name that several objects define is there once.
    ///
    /// # Errors
    ///
    /// Those of [`btf_objects`](Self::btf_objects).
    pub fn raw_tracepoint_names(&self) -> Result<Vec<String>, Error> {
        let objects = self.inner.btf.objects()?;
        if objects.is_empty() {
            return Err(self.no_btf());
        }
        let names = objects
            .iter()
            .flat_map(|object| object.index().event_names());
        let names: BTreeSet<&str> = names.collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// Returns the tracepoints that have no event in tracefs (`pelt_se_tp`,
    /// `sched_util_est_cfs_tp`), sorted by name. They are declared by `DECLARE_TRACE`
    /// alone, and take raw programs only.
    ///
    /// # Errors
    ///
    /// Those of [`btf_objects`](Self::btf_objects) and of [`events`](Self::events);
    /// [`Error::Btf`] if a tracepoint's arguments cannot be described.
    pub fn bare_tracepoints(&self) -> Result<Vec<RawTracepoint>, Error> {
        let events = self.events()?;
        let listed: HashSet<&str> = events.names().iter().map(EventName::event).collect();
        let objects = self.inner.btf.objects()?;
        if objects.is_empty() {
            return Err(self.no_btf());
        }
        let mut bare = Vec::new();
        let mut length = 0;
        for object in &objects {
            let names = object
                .index()
                .event_names()
                .filter(|name| !listed.contains(name));
            for name in names {
                let tracepoint = self.raw(name, object)?;
                length += tracepoint.length();
                if length > BARE_LIMIT {
                    return Err(Error::Btf {
                        path: self.inner.btf.path().join(object.name()),
                        source: BtfError::Describe(format!(
                            "tracepoints without events come to over {BARE_LIMIT} bytes of C"
                        )),
                    });
                }
                bare.push(tracepoint);
            }
        }
        bare.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(bare)
    }

    /// Returns the tracepoint of this name that the object defines.
    pub(crate) fn raw(&self, name: &str, home: &Object) -> Result<RawTracepoint, Error> {
        let arguments = home.arguments(name).map_err(|source| Error::Btf {
            path: self.inner.btf.path().join(home.name()),
            source,
        })?;
        Ok(RawTracepoint::new(
            name,
            home.name(),
            arguments.unwrap_or_default(),
        ))
    }

    pub(super) fn no_btf(&self) -> Error {
        Error::NoBtf {
            path: self.inner.btf.path().join("vmlinux"),
        }
    }
}
