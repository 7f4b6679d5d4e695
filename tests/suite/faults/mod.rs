//! Faults, one test for each row of the fault matrix: what happens, on real servers, when a
//! process, a server or the network between them fails.

mod killed;
mod kit;
mod messages;
mod redis_shop;
