//! Order per aggregate: consumers that keep it.
