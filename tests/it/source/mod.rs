//! The source itself: its rooms, its `unsafe` code, its dependencies, and the documents
//! that list them.

mod dependencies;
mod documents;
mod house;
mod unsafe_code;
