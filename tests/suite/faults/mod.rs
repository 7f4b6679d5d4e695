//! The fault matrix: one test per row, named for it.

mod messages;
mod redis_shop;
mod sizes;
