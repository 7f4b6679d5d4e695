//! Entries of a stream: both styles in, the `data` style out.
