//! The running kernel's verifier agrees.
