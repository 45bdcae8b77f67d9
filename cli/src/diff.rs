//! Two kernels held against each other: as text, JSON or Markdown.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tracepoints::diff::{
    EventChange, EventDiff, Judged, KernelDiff, NameChange, RawDiff, UserVerdict, UserVerdicts,
};
use tracepoints::layout::Difference;
use tracepoints::{EventPattern, Kernel};

use crate::kernel::{Identity, say_unreadable};
use crate::output::{self, Failure, say};
use crate::select::is_among;

/// Show what differs between the tracepoints of two kernels, and what that means for
/// programs made for the first
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The kernel that programs were made for: as for --root elsewhere
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The kernel they run on
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Only these events: sched:*, *:*exit*, …
    #[arg(long, short, value_name = "PATTERN")]
    only: Vec<EventPattern>,
    /// Print one JSON object a line
    #[arg(long, short)]
    json: bool,
    /// Print Markdown, for release notes
    #[arg(long, short, conflicts_with = "json")]
    markdown: bool,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints diff captured/6.1 captured/6.18
  tracepoints diff old.tar.zst linux-image-6.12.deb --only 'sched:*'
  tracepoints diff --markdown captured/6.1 captured/6.18 > tracepoints.md";

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(false, |out| diff(arguments, out))
}

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a, T> {
    #[serde(flatten)]
    diff: &'a T,
    from: &'a Identity,
    to: &'a Identity,
}

/// The row of the common fields.
#[derive(Serialize)]
struct CommonRow<'a> {
    common: &'a [Difference],
}

/// The two kernels and what differs.
struct Compared {
    from: Identity,
    to: Identity,
    diff: KernelDiff,
    only: Vec<EventPattern>,
}

fn open(path: &Path) -> Result<(Kernel, Identity), Failure> {
    let kernel = Kernel::at(path)?;
    let identity = Identity::of(path, &kernel);
    say_unreadable(&kernel);
    Ok((kernel, identity))
}

fn diff(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let (old, from) = open(&arguments.from)?;
    let (new, to) = open(&arguments.to)?;
    let diff = KernelDiff::between(&old, &new)?;
    for reason in diff.unreadable() {
        say!("not compared: {reason}");
    }
    let compared = Compared {
        from,
        to,
        diff,
        only: arguments.only.clone(),
    };
    match () {
        () if arguments.json => compared.write_json(out)?,
        () if arguments.markdown => compared.write_markdown(out)?,
        () => compared.write_text(out)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Compared {
    fn events(&self) -> impl Iterator<Item = &EventDiff> {
        let events = self.diff.events().iter();
        events.filter(|diff| is_among(&self.only, diff.event()))
    }

    /// Tracepoints without an event, and common fields, are not of any event.
    fn whole<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        match self.only.is_empty() {
            true => all,
            false => &[],
        }
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let common = self.whole(self.diff.common());
        if !common.is_empty() {
            self.write_row(&CommonRow { common }, out)?;
        }
        self.events()
            .try_for_each(|diff| self.write_row(diff, out))?;
        let tracepoints = self.whole(self.diff.tracepoints()).iter();
        tracepoints
            .into_iter()
            .try_for_each(|diff| self.write_row(diff, out))
    }

    fn write_row(&self, diff: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
        let row = Row {
            diff,
            from: &self.from,
            to: &self.to,
        };
        serde_json::to_writer(&mut *out, &row)?;
        out.write_all(b"\n")?;
        Ok(())
    }

    /// Events with the same difference are one paragraph.
    fn paragraphs(&self) -> Vec<(Vec<&EventDiff>, Vec<String>)> {
        let mut by_text: BTreeMap<Vec<String>, Vec<&EventDiff>> = BTreeMap::new();
        for diff in self.events() {
            if diff.change() == EventChange::Changed {
                by_text.entry(lines(diff)).or_default().push(diff);
            }
        }
        let mut paragraphs: Vec<_> = by_text
            .into_iter()
            .map(|(lines, events)| (events, lines))
            .collect();
        paragraphs.sort_by(|a, b| a.0[0].event().cmp(b.0[0].event()));
        paragraphs
    }

    fn names(&self, change: EventChange) -> Vec<&str> {
        let events = self.events().filter(|diff| diff.change() == change);
        events.map(|diff| diff.event().as_str()).collect()
    }

    fn write_text(&self, out: &mut dyn Write) -> Result<(), Failure> {
        for (word, change) in [("gone", EventChange::Gone), ("new", EventChange::New)] {
            for name in self.names(change) {
                writeln!(out, "{name}\n  {word}")?;
            }
        }
        let common = self.whole(self.diff.common());
        if !common.is_empty() {
            writeln!(out, "the common fields of all records")?;
            for difference in common {
                writeln!(out, "  field    {difference}")?;
            }
        }
        for (events, lines) in self.paragraphs() {
            for diff in events {
                writeln!(out, "{}", diff.event())?;
            }
            for line in lines {
                writeln!(out, "  {line}")?;
            }
        }
        for diff in self.whole(self.diff.tracepoints()) {
            writeln!(out, "{} (without an event)", diff.tracepoint())?;
            for line in raw_lines(diff) {
                writeln!(out, "  {line}")?;
            }
        }
        Ok(())
    }

    fn write_markdown(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (from, to) = (self.from.label(), self.to.label());
        writeln!(out, "# Tracepoints: {from} → {to}\n")?;
        if self.events().next().is_none() && self.diff.common().is_empty() {
            writeln!(out, "Nothing differs.")?;
            return Ok(());
        }
        self.write_verdicts(out)?;
        for (title, change) in [("Gone", EventChange::Gone), ("New", EventChange::New)] {
            let names = self.names(change);
            if !names.is_empty() {
                writeln!(out, "\n## {title}\n")?;
                names
                    .iter()
                    .try_for_each(|name| writeln!(out, "- `{name}`"))?;
            }
        }
        let common = self.whole(self.diff.common());
        if !common.is_empty() {
            writeln!(out, "\n## The common fields of all records\n")?;
            common
                .iter()
                .try_for_each(|difference| writeln!(out, "- {difference}"))?;
        }
        let paragraphs = self.paragraphs();
        if !paragraphs.is_empty() {
            writeln!(out, "\n## Changed")?;
        }
        for (events, lines) in paragraphs {
            let names: Vec<String> = events
                .iter()
                .map(|diff| format!("`{}`", diff.event()))
                .collect();
            writeln!(out, "\n{}\n", names.join(", "))?;
            for line in lines {
                let (what, rest) = line.split_once("  ").unwrap_or(("", &line));
                writeln!(out, "- {what}: `{}`", rest.trim_start())?;
            }
        }
        Ok(())
    }

    /// A table of how many events have which verdict.
    fn write_verdicts(&self, out: &mut dyn Write) -> Result<(), Failure> {
        type User = fn(&UserVerdicts) -> Option<&Judged>;
        const USERS: [(&str, User); 4] = [
            ("BPF with CO-RE", |users| Some(&users.core)),
            ("BPF with fixed offsets", |users| Some(&users.fixed_offsets)),
            ("parsers of format files", |users| {
                Some(&users.format_parsers)
            }),
            ("raw tracepoints", |users| users.raw_tp.as_ref()),
        ];
        const VERDICTS: [UserVerdict; 6] = [
            UserVerdict::Safe,
            UserVerdict::Unknown,
            UserVerdict::Recompile,
            UserVerdict::Refused,
            UserVerdict::WrongValue,
            UserVerdict::Gone,
        ];
        let words = VERDICTS.map(UserVerdict::as_str).join(" | ");
        writeln!(out, "| events that differ, for | {words} |")?;
        writeln!(out, "| --- |{}", " ---: |".repeat(VERDICTS.len()))?;
        for (name, user) in USERS {
            let judged = self.events().filter_map(EventDiff::users).filter_map(user);
            let verdicts: Vec<UserVerdict> = judged.map(|judged| judged.verdict).collect();
            let counts = VERDICTS.map(|verdict| {
                let count = verdicts.iter().filter(|known| **known == verdict).count();
                count.to_string()
            });
            writeln!(out, "| {name} | {} |", counts.join(" | "))?;
        }
        Ok(())
    }
}

/// Returns the lines about an event that both have.
pub(crate) fn lines(diff: &EventDiff) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(names) = diff.struct_name() {
        let [from, to] =
            [&names.from, &names.to].map(|name| name.as_deref().unwrap_or("(not known)"));
        lines.push(format!("struct   {from} -> {to}"));
    }
    let fields = diff.fields().iter();
    lines.extend(fields.map(|difference| format!("field    {difference}")));
    let members = diff.members().iter();
    lines.extend(members.map(|difference| format!("member   {difference}")));
    if let Some(arguments) = diff.arguments() {
        let [from, to] = [&arguments.from, &arguments.to].map(|list| list.join(", "));
        lines.push(format!("raw      ({from}) -> ({to})"));
    }
    lines.extend(diff.names().iter().map(name_line));
    lines.extend(diff.users().into_iter().flat_map(user_lines));
    lines
}

fn name_line(change: &NameChange) -> String {
    let NameChange {
        field,
        name,
        from,
        to,
        ..
    } = change;
    match (from, to) {
        (Some(from), Some(to)) => format!("name     {field}: {name} was {from:#x} and is {to:#x}"),
        (None, Some(to)) => format!("name     {field}: {name} is new, {to:#x}"),
        (Some(from), None) => format!("name     {field}: {name} is gone, {from:#x}"),
        (None, None) => format!("name     {field}: {name}, of a number that is not known"),
    }
}

fn user_lines(users: &UserVerdicts) -> Vec<String> {
    if users.are_safe() {
        return vec!["users    all safe".to_owned()];
    }
    let all = [
        ("CO-RE", Some(&users.core)),
        ("offsets", Some(&users.fixed_offsets)),
        ("parsers", Some(&users.format_parsers)),
        ("raw_tp", users.raw_tp.as_ref()),
    ];
    let judged = all
        .into_iter()
        .filter_map(|(name, judged)| Some((name, judged?)));
    judged
        .map(|(name, judged)| match &judged.reason {
            Some(reason) => format!("{name:8} {}: {reason}", judged.verdict),
            None => format!("{name:8} {}", judged.verdict),
        })
        .collect()
}

fn raw_lines(diff: &RawDiff) -> Vec<String> {
    let word = match diff.change() {
        EventChange::Gone => return vec!["gone".to_owned()],
        EventChange::New => return vec!["new".to_owned()],
        _ => diff.arguments(),
    };
    let mut lines = Vec::new();
    if let Some(arguments) = word {
        let [from, to] = [&arguments.from, &arguments.to].map(|list| list.join(", "));
        lines.push(format!("raw      ({from}) -> ({to})"));
    }
    if let Some(judged) = diff.raw_tp() {
        let reason = judged.reason.as_deref();
        let reason = reason.map(|reason| format!(": {reason}"));
        lines.push(format!(
            "raw_tp   {}{}",
            judged.verdict,
            reason.unwrap_or_default()
        ));
    }
    lines
}
