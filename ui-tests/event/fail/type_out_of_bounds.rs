use eventflow::prelude::*;

#[derive(Event)]
#[event(type = "")]
struct Nameless;

#[derive(Event)]
#[event(type = "12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678_")]
struct Long;

#[derive(Event)]
#[event(type = "order\0created")]
struct Control;

fn main() {}
