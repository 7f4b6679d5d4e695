//! tower: layers around a consumer and around one handler, and what a cut call leaves behind.

mod beside;
mod handler_limits;
mod isolation;
mod layers;
mod limits;
mod options;
mod plain;
mod transactions;
