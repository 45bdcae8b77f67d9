//! Chooses which of several structs an event has on the kernel at hand, by what the loader
//! can tell.

use std::collections::HashSet;

use super::sites::Site;
use crate::btf::STRUCT_PREFIX;
use crate::emit::history::HistoryRow;
use crate::error::Error;
use crate::kernel::Kernel;

/// The way to choose the struct when the program is loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// By the first of the structs that exists.
    ByExistence,
    /// By a constant that is set before the program is loaded. No order is right: on one of
    /// the kernels, a struct exists that is not the event's there.
    ByConstant,
}

/// The structs of an event on all kernels.
#[derive(Debug)]
pub(super) struct Classes {
    /// The structs, in the order in which they are tried.
    pub(super) structs: Vec<String>,
    pub(super) choice: Choice,
    /// The struct of the event's own name, if no kernel has it. On a kernel where it
    /// exists, it is the event's.
    pub(super) own: Option<String>,
}

/// Returns the names whose structs libbpf finds on a kernel, in vmlinux or in any module.
fn existing<'s>(kernel: &Kernel, names: &[&'s str]) -> Result<HashSet<&'s str>, Error> {
    let mut found = HashSet::new();
    let find = |found: &mut HashSet<&'s str>, object: &crate::btf::Object| {
        let index = object.index();
        found.extend(names.iter().copied().filter(|name| {
            let class = name.strip_prefix(STRUCT_PREFIX);
            class.is_some_and(|class| !index.classes_named(class).is_empty())
                || index.known_structs(name).next().is_some()
        }));
    };
    if let Some(vmlinux) = kernel.vmlinux()? {
        find(&mut found, &vmlinux);
    }
    if found.len() < names.len() {
        for object in kernel.objects()? {
            find(&mut found, &object);
        }
    }
    Ok(found)
}

impl Classes {
    /// Chooses among the structs of `sites`. `kernels` are those of the sites, in their
    /// order.
    pub(super) fn of(event: &str, sites: &[Site], kernels: &[&Kernel]) -> Result<Self, Error> {
        let own = format!("{STRUCT_PREFIX}{event}");
        let mut rest: Vec<&str> = Vec::new();
        for site in sites {
            if !rest.contains(&&*site.struct_name) {
                rest.push(&site.struct_name);
            }
        }
        // Where the event's own struct exists, it is most likely the event's.
        rest.sort_by_key(|name| **name != *own);
        let is_class = sites
            .iter()
            .all(|site| site.struct_name.starts_with(STRUCT_PREFIX));
        let mut names = rest.clone();
        if is_class && !rest.contains(&&*own) {
            names.push(&own);
        }
        let mut exists = Vec::new();
        if names.len() > 1 {
            for kernel in kernels {
                exists.push(existing(kernel, &names)?);
            }
        }
        let own_exists = exists.iter().any(|names| names.contains(&*own));
        let guards = is_class && !rest.contains(&&*own) && !own_exists;
        let mut structs = Vec::new();
        let mut choice = Choice::ByExistence;
        while !rest.is_empty() {
            // A struct may come next if it does not exist where the event has one that
            // comes later.
            let is_next = |name: &str| {
                sites.iter().zip(&exists).all(|(site, exists)| {
                    site.struct_name == name
                        || !rest.contains(&&*site.struct_name)
                        || !exists.contains(name)
                })
            };
            let next = match rest.len() {
                1 => 0,
                _ => rest
                    .iter()
                    .position(|name| is_next(name))
                    .unwrap_or_else(|| {
                        choice = Choice::ByConstant;
                        0
                    }),
            };
            structs.push(rest.remove(next).to_owned());
        }
        Ok(Self {
            structs,
            choice,
            own: guards.then_some(own),
        })
    }

    /// Returns the rows of the history on whose kernels a wrong struct would be taken, each
    /// with the letters of these kernels and the name of that struct.
    pub(super) fn wrong_on<'r>(
        &self,
        rows: &'r [HistoryRow],
    ) -> Vec<(&'r HistoryRow, String, String)> {
        let mut wrong = Vec::new();
        if self.choice == Choice::ByConstant {
            return wrong;
        }
        for row in rows.iter().filter(|row| !row.is_misread) {
            if self.own.as_deref() == Some(row.struct_name) {
                continue;
            }
            let mut left = row.letters().to_owned();
            for name in &self.structs {
                if name == row.struct_name {
                    break;
                }
                let others = rows.iter();
                for other in others.filter(|other| other.is_misread && other.struct_name == name) {
                    let (taken, rest): (String, String) = left
                        .chars()
                        .partition(|letter| other.letters().contains(*letter));
                    if !taken.is_empty() && other.members().next().is_some() {
                        wrong.push((row, taken, name.clone()));
                    }
                    left = rest;
                }
            }
        }
        wrong
    }
}
