//! The macros of eventflow.
