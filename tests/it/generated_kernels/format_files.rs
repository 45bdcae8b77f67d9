//! Format files: read and written back, byte for byte.

use super::{Line, common, format_text, lines, name, sketches};
use proptest::prelude::*;
use tracepoints::format::Format;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A file is written back byte for byte, and has the fields it was made of.
    #[test]
    fn a_format_is_what_was_written(
        sketches in sketches(),
        is_long_entry in any::<bool>(),
        is_64_bit in any::<bool>(),
        print_fmt in r#""([ -!#-\[\]-~]|\\n|\\"|%[dsx]){0,40}"(, REC->[a-z_]{1,9}|, \(\{ \P{Cc}{0,9}; \}\)|\n){0,4}"#,
    ) {
        let entry = if is_long_entry { 12 } else { 8 };
        let long = if is_64_bit { 8 } else { 4 };
        let (common, own) = (common(entry), lines(&sketches, entry, long));
        let text = format_text("generated", &common, &own, &print_fmt);
        let format = Format::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(format.to_string(), text);
        prop_assert_eq!(format.print_fmt(), print_fmt);
        let read: Vec<Line> = format.fields().iter().map(Line::of).collect();
        prop_assert_eq!(read, own);
        let read: Vec<Line> = format.common_fields().iter().map(Line::of).collect();
        prop_assert_eq!(read, common);
        for (index, field) in format.fields().iter().enumerate() {
            prop_assert_eq!(field.name(), name(index));
        }
    }
}
