//! Not yet.
mod address;
mod exception;
mod frame;
mod order;
mod plan;
mod stand_in;
mod value;
