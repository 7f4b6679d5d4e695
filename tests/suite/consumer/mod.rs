//! The consumer: what becomes of events, whatever their handlers and the processes do.

mod failures;
