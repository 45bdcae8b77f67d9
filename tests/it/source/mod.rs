//! The source itself: its rooms, its `unsafe` code, its dependencies, and the documents
//! that list them.

mod dependencies;
mod house;
mod test_table;
mod unsafe_code;
