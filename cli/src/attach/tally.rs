//! Counts and histograms, which the kernel keeps.

use std::io::{IsTerminal, Write};

use serde_json::json;
use tracepoints::EventName;
use tracepoints::probe::{Bucket, Counter, Histogram, Losses, ProbeBuilder, ProbeError};

use crate::output::{Failure, JsonRows, plural, say};

/// What is counted.
pub(super) enum Tally<'a> {
    Counts(Counter, Option<usize>),
    Values(Histogram, &'a str),
}

impl<'a> Tally<'a> {
    /// Counts events, or the values of a field.
    pub(super) fn attach(
        builder: &ProbeBuilder,
        field: Option<&'a str>,
        top: Option<usize>,
    ) -> Result<Self, ProbeError> {
        Ok(match field {
            Some(field) => Self::Values(builder.histogram(field)?, field),
            None => Self::Counts(builder.count()?, top),
        })
    }

    /// Prints what has been counted so far: as rows of JSON, or as a table, which takes
    /// the place of the one before on a terminal.
    pub(super) fn print(
        &self,
        json: &mut Option<JsonRows>,
        is_repeated: bool,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        if is_repeated && json.is_none() {
            match std::io::stdout().is_terminal() {
                // Home, and clear what is below.
                true => write!(out, "\x1b[H\x1b[J")?,
                false => writeln!(out)?,
            }
        }
        match self {
            Self::Counts(counter, top) => print_counts(counter.counts()?, *top, json, out)?,
            Self::Values(histogram, field) => {
                for (event, buckets) in histogram.buckets()? {
                    print_buckets(event, field, &buckets, json, out)?;
                }
            }
        }
        Ok(out.flush()?)
    }

    pub(super) fn losses(&self) -> Result<Losses, ProbeError> {
        match self {
            Self::Counts(counter, _) => counter.losses(),
            Self::Values(histogram, _) => histogram.losses(),
        }
    }
}

fn print_counts(
    mut counts: Vec<(&EventName, u64)>,
    top: Option<usize>,
    json: &mut Option<JsonRows>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    counts.sort_by_key(|(event, count)| (std::cmp::Reverse(*count), (*event).clone()));
    let all = counts.len();
    if json.is_none() && all > 1 {
        counts.retain(|(_, count)| *count > 0);
    }
    let silent = all - counts.len();
    counts.truncate(top.unwrap_or(usize::MAX));
    let width = counts.iter().map(|(_, count)| count.to_string().len());
    let width = width.max().unwrap_or(0);
    for (event, count) in counts {
        match json {
            Some(json) => json.write(&json!({"event": event, "count": count}), out)?,
            None => writeln!(out, "{count:>width$}  {event}")?,
        }
    }
    if silent > 0 && top.is_none() {
        let events = plural(silent as u64, "event", "s");
        say!("{events} did not happen");
    }
    Ok(())
}

fn print_buckets(
    event: &EventName,
    field: &str,
    buckets: &[Bucket],
    json: &mut Option<JsonRows>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    /// How long the longest bar is.
    const BAR: u64 = 40;
    if let Some(json) = json {
        let row = json!({"event": event, "field": field, "buckets": buckets});
        return json.write(&row, out);
    }
    writeln!(out, "{event} {field}")?;
    let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0);
    for bucket in buckets {
        let bar = "@".repeat((bucket.count * BAR).div_ceil(most.max(1)) as usize);
        let (values, count) = (values(bucket), bucket.count);
        writeln!(out, "  {values:<24} {count:>10} |{bar:<40}|")?;
    }
    Ok(())
}

/// `[16, 31]`: what lies between two powers of two.
fn values(bucket: &Bucket) -> String {
    match bucket.values() {
        None => "(.., 0)".to_owned(),
        Some(values) if values.start() == values.end() => format!("[{}]", values.start()),
        Some(values) => format!("[{}, {}]", values.start(), values.end()),
    }
}
