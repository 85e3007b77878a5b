//! tmp
#![allow(dead_code)]
mod print;
mod value;
fn main() {}
