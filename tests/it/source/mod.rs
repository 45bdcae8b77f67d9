//! What holds of the source itself, and of the documents that list a part of it.

mod dependencies;
mod house;
mod unsafe_code;
