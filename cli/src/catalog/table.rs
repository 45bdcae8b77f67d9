//! Tables of rows, as Parquet and as JSON Lines.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Map, Value};

use crate::output::Failure;

/// The version of the schemas: see docs/catalog.md.
const VERSION: &str = "1";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Text,
    Number,
    Truth,
}

/// A column: its name, its type, and whether it may be null.
pub(crate) type Column = (&'static str, ColumnType, bool);

/// A table's name and columns.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Number(i64),
    Truth(bool),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Values in the order of the table's columns.
pub(crate) type Row = Vec<Cell>;

fn failed(error: ParquetError) -> Failure {
    Failure::Other(format!("writing Parquet: {error}"))
}

impl Table {
    /// Returns a Parquet file with a row group for all rows. The same rows give the same
    /// bytes.
    pub(crate) fn parquet(&self, rows: &[Row]) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        self.write_parquet(rows, &mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn write_parquet(&self, rows: &[Row], out: &mut Vec<u8>) -> Result<(), ParquetError> {
        let columns = self.columns.iter().map(|(name, kind, is_optional)| {
            let repetition = if *is_optional { "optional" } else { "required" };
            let kind = match kind {
                ColumnType::Text => format!("binary {name} (UTF8)"),
                ColumnType::Number => format!("int64 {name}"),
                ColumnType::Truth => format!("boolean {name}"),
            };
            format!("{repetition} {kind};")
        });
        let columns: Vec<String> = columns.collect();
        let schema = format!("message {} {{ {} }}", self.name, columns.join(" "));
        let schema = parse_message_type(&schema)?;
        let version = KeyValue::new("tracepoints.schema".to_owned(), VERSION.to_owned());
        let properties = WriterProperties::builder()
            .set_created_by("tracepoints".to_owned())
            .set_compression(Compression::LZ4_RAW)
            .set_key_value_metadata(Some(vec![version]));
        let properties = Arc::new(properties.build());
        let mut writer = SerializedFileWriter::new(out, Arc::new(schema), properties)?;
        let mut group = writer.next_row_group()?;
        for (index, (_, kind, is_optional)) in self.columns.iter().enumerate() {
            let Some(column) = group.next_column()? else {
                break;
            };
            let cells = rows.iter().map(|row| row.get(index).unwrap_or(&Cell::Null));
            write_column(column, *kind, *is_optional, cells)?;
        }
        group.close()?;
        writer.close()?;
        Ok(())
    }

    /// Returns a JSON object a line; a null is written as such.
    pub(crate) fn json_lines(&self, rows: &[Row]) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        for row in rows {
            let names = self.columns.iter().map(|(name, ..)| (*name).to_owned());
            let values = row.iter().map(|cell| match cell {
                Cell::Null => Value::Null,
                Cell::Text(text) => Value::from(text.as_str()),
                Cell::Number(number) => Value::from(*number),
                Cell::Truth(truth) => Value::from(*truth),
            });
            let object: Map<String, Value> = names.zip(values).collect();
            serde_json::to_writer(&mut out, &object)?;
            out.push(b'\n');
        }
        Ok(out)
    }
}

fn write_column<'a>(
    mut column: SerializedColumnWriter<'_>,
    kind: ColumnType,
    is_optional: bool,
    cells: impl Iterator<Item = &'a Cell> + Clone,
) -> Result<(), ParquetError> {
    // Whether each row has a value; only where some may not.
    let levels: Vec<i16> = cells
        .clone()
        .map(|cell| i16::from(*cell != Cell::Null))
        .collect();
    let levels = is_optional.then_some(levels.as_slice());
    match kind {
        ColumnType::Text => {
            let texts = cells.filter_map(|cell| match cell {
                Cell::Text(text) => Some(ByteArray::from(text.as_str())),
                _ => None,
            });
            let texts: Vec<ByteArray> = texts.collect();
            column
                .typed::<ByteArrayType>()
                .write_batch(&texts, levels, None)?;
        }
        ColumnType::Number => {
            let numbers = cells.filter_map(|cell| match cell {
                Cell::Number(number) => Some(*number),
                _ => None,
            });
            let numbers: Vec<i64> = numbers.collect();
            column
                .typed::<Int64Type>()
                .write_batch(&numbers, levels, None)?;
        }
        ColumnType::Truth => {
            let truths = cells.filter_map(|cell| match cell {
                Cell::Truth(truth) => Some(*truth),
                _ => None,
            });
            let truths: Vec<bool> = truths.collect();
            column
                .typed::<BoolType>()
                .write_batch(&truths, levels, None)?;
        }
    }
    column.close()
}
