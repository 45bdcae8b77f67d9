//! Counts and histograms, which the kernel keeps.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use rustix::termios::tcgetwinsize;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tracepoints::EventName;
use tracepoints::probe::{
    Bucket, Counter, Group, GroupValue, Groups, Histogram, Losses, PinnedResults, ProbeBuilder,
    ProbeError, Summary,
};

use super::Arguments;
use super::stack::{Frame, Stacks};
use crate::output::{self, Failure, JsonRows, plural, say};

/// The quantity that is counted.
pub(super) struct Tally<'a> {
    kind: Kind<'a>,
    top: Option<usize>,
    /// Names functions, if groups have stacks.
    stacks: Option<Stacks>,
}

/// The place of a table among those that a run prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repetition {
    /// The only table of the run.
    Only,
    /// One that another table follows.
    Next,
    /// The last of several tables.
    Last,
}

enum Kind<'a> {
    Counts(&'a Counter),
    Powers(&'a Histogram),
    Steps(&'a Groups, &'a str, u64),
    Groups(&'a Groups),
}

/// Attaches what the arguments ask for; `None` if they ask for records.
pub(super) fn attach(
    builder: &ProbeBuilder,
    arguments: &Arguments,
) -> Option<Result<PinnedResults, ProbeError>> {
    if let Some(field) = &arguments.hist {
        return Some(builder.histogram(field).map(PinnedResults::Histogram));
    }
    if let Some((field, _)) = &arguments.lhist {
        let groups = builder.group_by(std::slice::from_ref(field), Some(field));
        return Some(groups.map(|groups| PinnedResults::Groups(Box::new(groups))));
    }
    let (by, measured) = (arguments.by.as_deref(), arguments.stats.as_deref());
    if by.is_some() || measured.is_some() {
        let groups = builder.group_by(by.unwrap_or_default(), measured);
        return Some(groups.map(|groups| PinnedResults::Groups(Box::new(groups))));
    }
    arguments
        .count
        .then(|| builder.count().map(PinnedResults::Counts))
}

impl<'a> Tally<'a> {
    /// Returns the tally of what only counts; `None` of records. `stacks` names functions, if
    /// groups have stacks.
    pub(super) fn of(
        results: &'a PinnedResults,
        arguments: &'a Arguments,
        stacks: Option<Stacks>,
    ) -> Option<Self> {
        let kind = match (results, &arguments.lhist) {
            (PinnedResults::Counts(counter), _) => Kind::Counts(counter),
            (PinnedResults::Histogram(histogram), _) => Kind::Powers(histogram),
            (PinnedResults::Groups(groups), Some((field, step))) => {
                Kind::Steps(groups, field, *step)
            }
            (PinnedResults::Groups(groups), None) => Kind::Groups(groups),
            _ => return None,
        };
        let top = arguments.top;
        Some(Self { kind, top, stacks })
    }

    /// Prints the counts so far, as rows of JSON or as a table. On a terminal, a
    /// repeated table replaces the one before and is cut to fit; the last is whole.
    pub(super) fn print(
        &self,
        json: &mut Option<JsonRows>,
        repetition: Repetition,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        if json.is_some() || repetition == Repetition::Only {
            self.print_all(json, out)?;
            return Ok(out.flush()?);
        }
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            writeln!(out)?;
            self.print_all(json, out)?;
            return Ok(out.flush()?);
        }
        let mut table = Vec::new();
        self.print_all(json, &mut table)?;
        let table = String::from_utf8_lossy(&table);
        // Moves the cursor home and clears the screen below it.
        write!(out, "\x1b[H\x1b[J")?;
        match tcgetwinsize(&stdout) {
            Ok(size) if repetition == Repetition::Next && size.ws_row > 0 => {
                let fitted = output::fitted(&table, size.ws_row.into(), size.ws_col.into());
                out.write_all(fitted.as_bytes())?;
            }
            _ => out.write_all(table.as_bytes())?,
        }
        Ok(out.flush()?)
    }

    fn print_all(&self, json: &mut Option<JsonRows>, out: &mut dyn Write) -> Result<(), Failure> {
        match &self.kind {
            Kind::Counts(counter) => print_counts(counter.counts()?, self.top, json, out),
            Kind::Powers(histogram) => print_powers(histogram, json, out),
            Kind::Steps(groups, field, step) => print_steps(groups, field, *step, json, out),
            Kind::Groups(groups) => {
                let (by, measured) = (groups.by(), groups.measured());
                let mut all = groups.groups()?;
                all.sort_by_key(|group| std::cmp::Reverse(group.count));
                all.truncate(self.top.unwrap_or(usize::MAX));
                let Some(json) = json else {
                    return print_groups(&all, by, measured, self.stacks.as_ref(), out);
                };
                for group in &all {
                    json.write(&group_row(group, by, measured, self.stacks.as_ref()), out)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn losses(&self) -> Result<Losses, ProbeError> {
        match &self.kind {
            Kind::Counts(counter) => counter.losses(),
            Kind::Powers(histogram) => histogram.losses(),
            Kind::Steps(groups, ..) | Kind::Groups(groups) => groups.losses(),
        }
    }
}

/// Whether groups by this word have a stack, which is printed below their row.
fn is_stack_word(field: &str) -> bool {
    matches!(field, "kstack" | "ustack")
}

/// Returns the functions of a value that is a stack.
fn frames(value: &GroupValue, stacks: &Stacks) -> Option<Vec<Frame>> {
    match value {
        GroupValue::KernelStack { addresses, .. } => {
            Some(stacks.of_kernel(addresses.iter().copied()))
        }
        GroupValue::UserStack { pid, addresses, .. } => {
            Some(stacks.of_process(*pid, addresses.iter().copied()))
        }
        _ => None,
    }
}

/// A group in JSON: `{"event", "by": {FIELD: VALUE}, "count"}`, with the sum and so on of a
/// measured field. Sums are written whole, also those that do not fit into 64 bits.
#[derive(Serialize)]
struct GroupRow<'a> {
    event: &'a EventName,
    by: Map<String, Value>,
    count: u64,
    #[serde(flatten)]
    measured: Option<MeasuredRow<'a>>,
}

/// `null` for a sum that is not known.
#[derive(Serialize)]
struct MeasuredRow<'a> {
    field: &'a str,
    sum: Option<i128>,
    min: i128,
    max: i128,
    avg: Option<f64>,
}

fn group_row<'a>(
    group: &'a Group,
    by: &[String],
    measured: Option<&'a str>,
    stacks: Option<&Stacks>,
) -> GroupRow<'a> {
    let key: Map<String, Value> = std::iter::zip(by, &group.key)
        .map(|(field, value)| {
            let frames = stacks.and_then(|stacks| frames(value, stacks));
            let value = frames.map_or_else(|| json!(value), |frames| json!(frames));
            (field.clone(), value)
        })
        .collect();
    let measured = measured.zip(group.summary);
    GroupRow {
        event: &group.event,
        by: key,
        count: group.count,
        measured: measured.map(|(field, summary)| MeasuredRow {
            field,
            sum: summary.sum,
            min: summary.min,
            max: summary.max,
            avg: average(group, &summary),
        }),
    }
}

fn average(group: &Group, summary: &Summary) -> Option<f64> {
    Some(summary.sum? as f64 / group.count as f64)
}

fn print_groups(
    groups: &[Group],
    by: &[String],
    measured: Option<&str>,
    stacks: Option<&Stacks>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut head = vec!["COUNT".to_owned()];
    if let Some(field) = measured {
        head.extend(["SUM", "AVG", "MIN", "MAX"].map(|what| format!("{what}({field})")));
    }
    let numbers = head.len();
    let columns = by.iter().filter(|field| !is_stack_word(field));
    head.extend(columns.map(|field| field.to_uppercase()));
    head.push("EVENT".to_owned());
    let mut rows = vec![head];
    for group in groups {
        let mut row = vec![group.count.to_string()];
        if let Some(summary) = group.summary {
            let sum = summary.sum.map(|sum| sum.to_string());
            let average = average(group, &summary).map(|average| format!("{average:.1}"));
            // Sums that are not known.
            row.extend([sum, average].map(|number| number.unwrap_or_else(|| "-".to_owned())));
            row.extend([summary.min, summary.max].map(|value| value.to_string()));
        }
        row.resize(numbers, "-".to_owned());
        let columns = by.iter().zip(&group.key);
        let columns = columns.filter(|(field, _)| !is_stack_word(field));
        row.extend(columns.map(|(_, value)| value.to_string()));
        row.push(group.event.to_string());
        rows.push(row);
    }
    let columns = rows[0].len();
    let width = |column: usize| {
        rows.iter()
            .map(move |row| row[column].chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let head = std::iter::once(None);
    for (row, group) in rows.iter().zip(head.chain(groups.iter().map(Some))) {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column < numbers {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        });
        write!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        let mut below = String::new();
        if let (Some(group), Some(stacks)) = (group, stacks) {
            let of_group = group.key.iter().filter_map(|value| frames(value, stacks));
            for (index, stack) in of_group.enumerate() {
                // As between the stacks of `offcputime`.
                below.push_str(if index > 0 { "\n\t--" } else { "" });
                stack.iter().for_each(|frame| frame.print(&mut below));
            }
        }
        writeln!(out, "{below}")?;
    }
    Ok(())
}

/// Prints the counts of values by powers of two.
fn print_powers(
    histogram: &Histogram,
    json: &mut Option<JsonRows>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let field = histogram.field();
    for (event, buckets) in histogram.buckets()? {
        match json {
            Some(json) => {
                let row = json!({"event": event, "field": field, "buckets": buckets});
                json.write(&row, out)?;
            }
            None => {
                let bars = buckets.iter().map(|one| (values(one), one.count));
                print_bars(event, field, &bars.collect::<Vec<_>>(), out)?;
            }
        }
    }
    Ok(())
}

/// Prints the counts of values by steps of one size, from the smallest to the greatest that
/// occurred.
fn print_steps(
    groups: &Groups,
    field: &str,
    step: u64,
    json: &mut Option<JsonRows>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    /// The most empty steps that are shown between others.
    const EMPTY: i128 = 100;
    let mut by_event: BTreeMap<EventName, BTreeMap<i128, u64>> = BTreeMap::new();
    for group in groups.groups()? {
        let Some(summary) = group.summary else {
            continue;
        };
        let at = summary.min.div_euclid(step.into());
        let count = by_event
            .entry(group.event)
            .or_default()
            .entry(at)
            .or_default();
        *count = count.saturating_add(group.count);
    }
    let range = |at: i128| (at * i128::from(step), (at + 1) * i128::from(step) - 1);
    for (event, counts) in &by_event {
        if let Some(json) = json {
            let buckets = counts.iter().map(|(at, count)| {
                let (from, to) = range(*at);
                json!({"from": from, "to": to, "count": count})
            });
            let buckets: Vec<Value> = buckets.collect();
            json.write(
                &json!({"event": event, "field": field, "steps": buckets}),
                out,
            )?;
            continue;
        }
        let mut bars = Vec::new();
        let mut next = None;
        for (at, count) in counts {
            let empty = next
                .filter(|next| at - next <= EMPTY)
                .map_or(*at, |next| next);
            bars.extend((empty..*at).map(|at| (range(at), 0)));
            bars.push((range(*at), *count));
            next = Some(at + 1);
        }
        let bars: Vec<_> = bars
            .into_iter()
            .map(|((from, to), count)| (format!("[{from}, {to}]"), count))
            .collect();
        print_bars(event, field, &bars, out)?;
    }
    Ok(())
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

/// Writes a line for each range of values, with its count as a bar.
fn print_bars(
    event: &EventName,
    field: &str,
    bars: &[(String, u64)],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    /// The length of the longest bar.
    const BAR: u128 = 40;
    writeln!(out, "{event} {field}")?;
    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(0);
    for (values, count) in bars {
        let length = (u128::from(*count) * BAR).div_ceil(u128::from(most.max(1)));
        let bar = "@".repeat(length as usize);
        writeln!(out, "  {values:<24} {count:>10} |{bar:<40}|")?;
    }
    Ok(())
}

/// Returns a range between two powers of two, such as `[16, 31]`.
fn values(bucket: &Bucket) -> String {
    match bucket.values() {
        None => "(.., 0)".to_owned(),
        Some(values) if values.start() == values.end() => format!("[{}]", values.start()),
        Some(values) => format!("[{}, {}]", values.start(), values.end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_any_size() {
        let row = |sum: Option<i128>| {
            let event: EventName = "a:b".parse().expect("a name");
            let row = GroupRow {
                event: &event,
                by: Map::new(),
                count: 2,
                measured: Some(MeasuredRow {
                    field: "f",
                    sum,
                    min: i128::from(i64::MIN),
                    max: i128::from(u64::MAX),
                    avg: sum.map(|sum| sum as f64 / 2.0),
                }),
            };
            serde_json::to_string(&row).expect("JSON")
        };
        assert_eq!(
            row(Some(2 * i128::from(u64::MAX))),
            "{\"event\":\"a:b\",\"by\":{},\"count\":2,\"field\":\"f\",\
             \"sum\":36893488147419103230,\"min\":-9223372036854775808,\
             \"max\":18446744073709551615,\"avg\":1.8446744073709552e+19}"
        );
        assert!(row(None).contains("\"sum\":null,") && row(None).contains("\"avg\":null}"));
    }

    /// Counts at the end of 64 bits have bars like others.
    #[test]
    fn bars_of_any_count() {
        let event: EventName = "a:b".parse().expect("a name");
        let bars = [u64::MAX, u64::MAX / 2, 1, 0].map(|count| ("x".to_owned(), count));
        let mut out = Vec::new();
        assert!(print_bars(&event, "f", &bars, &mut out).is_ok());
        let text = String::from_utf8(out).expect("UTF-8");
        let lengths: Vec<usize> = text.lines().map(|line| line.matches('@').count()).collect();
        assert_eq!(lengths, [0, 40, 20, 1, 0]);
    }
}
